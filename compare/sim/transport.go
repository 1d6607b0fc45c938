package sim

import (
	"io"
	"log"
)

// nodeLogger is the logger that a node gets.
func nodeLogger(spec NodeSpec) *log.Logger {
	if spec.Log == nil {
		return log.New(io.Discard, "", 0)
	}
	return log.New(spec.Log, spec.Name+" ", log.Ltime|log.Lmicroseconds)
}

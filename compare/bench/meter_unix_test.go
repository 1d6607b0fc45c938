//go:build unix

package bench

import (
	"syscall"
	"time"
)

// processTime returns the processor time that the process has used so far, in
// user and system mode.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

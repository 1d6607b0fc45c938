//go:build !unix

package bench

import "time"

var started = time.Now()

// processTime is the time of the clock where that of the processor is not to be
// had.
func processTime() time.Duration { return time.Since(started) }

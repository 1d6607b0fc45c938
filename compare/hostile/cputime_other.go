//go:build !unix

package hostile

import "time"

// processTime is not known on this system.
func processTime() time.Duration { return 0 }

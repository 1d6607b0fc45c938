//go:build !linux

package memberlist

import "net"

// newDatagramIO returns the best datagramIO of the platform.
func newDatagramIO(conn *net.UDPConn, ipv6 bool) (datagramIO, error) {
	return newPlainIO(conn, ipv6)
}

// forceBuffers would enlarge the buffers of a socket beyond what every process
// may have.
func forceBuffers(*net.UDPConn) bool { return false }

// Package bench holds the benchmarks that compare this library with
// hashicorp/memberlist. Each exists once and is built twice:
//
//	go test -bench GossipIn ./bench               measures the reference
//	go test -tags ours -bench GossipIn ./bench    measures this library
//
// and cmd/report does that for all of them, interleaved, and writes the result
// down.
//
// What is measured is the processor time of the whole process, cpu-ns/op, since
// a node works on many goroutines at once; that of the preparation is left out.
// Nodes are driven from outside alone, through the interfaces that both
// libraries share: packets and streams come in through a transport that lives
// in memory, and go out into a counter; or through real sockets on loopback.
//
// The benchmarks whose names begin with Limit measure what the same work costs
// when nothing but the work is done. They need neither library.
package bench

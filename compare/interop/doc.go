// Package interop proves that this repository's library and
// github.com/hashicorp/memberlist v0.7.0 can stand in for each other: mixed
// clusters in virtual time and on real sockets, clusters that are exchanged
// node by node, programs in the shapes that others wrote, and Serf. The proof
// is in the tests; docs/compatibility.md has the result of their last run.
//
// The packages below are the tools: simnet is the network in memory, node the
// common face of both libraries, reference and ours the two adapters, wiretap
// an independent reader of packets, programs the small programs that are built
// against either library, and cmd/suite runs the tests of Serf and other programs.
package interop

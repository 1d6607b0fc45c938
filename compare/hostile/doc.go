// Package hostile gives nodes of this library and of hashicorp/memberlist v0.7.0
// the same hostile input, and tells what it makes them hold, send, log or lose.
//
//	go run ./hostile/cmd/hostile -out ../docs    all cases, three rounds; writes hostile.md
//
// Each [Case] is one kind of input. It goes through a network in memory, and
// nodes are seen from outside alone: by the API that both libraries share, by what
// they send, by their log, and by the heap of the process. Time is virtual, so an
// experiment may watch a cluster for hours; processor time is real.
//
// A case has a limit, which is the bound that the documentation promises. The tests
// run each case with little input and fail if this library exceeds the limit.
package hostile

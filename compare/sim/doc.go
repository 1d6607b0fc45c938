// Package sim measures two memberlist libraries side by side in virtual time.
//
// A [Cluster] runs up to a few hundred nodes on a network of package simnet,
// each of them an unmodified library behind the small interface [Library], and
// records what every node believes about every other. The experiments subject
// clusters of either library, or of both mixed, to the same schedule of faults
// from the same seed, and the reports put the figures next to each other.
//
// The command in cmd/compare runs the experiments and writes tables and plots.
package sim

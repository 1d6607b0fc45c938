// Package lib is the library under measurement, under one name for both: built
// with the tag "ours" it is this repository's, else hashicorp/memberlist. The
// benchmarks import nothing else of either, so they exist once and measure
// both.
package lib

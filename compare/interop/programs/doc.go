// Package programs holds small programs in the shapes in which others embed
// github.com/hashicorp/memberlist, written as tests. They import that path and
// nothing else of either library, so that they run on memberlist itself as they
// stand (go test ./interop/programs) and on this repository's library by one
// replace directive, which is what TestProgramsOnOurs in package interop does.
package programs

// Command cluster shows the life of a cluster on one machine.
//
// It starts a few nodes on loopback with real UDP and TCP sockets, encrypted and
// labelled, and takes them through joining, a broadcast, a change of meta data,
// a sudden death, a graceful leave and a return under the same name at another
// port. After each step it prints what every node sees. The exit status is 0
// only if each node saw all of it.
//
//	go run ./examples/cluster            five nodes, less than ten seconds
//	go run ./examples/cluster -nodes 12  more of them
//	go run ./examples/cluster -v         with the log of the library
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

const (
	fewestNodes = 4 // one dies and one leaves; two more are needed to watch
	mostNodes   = 64
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command runs the program and returns its exit status: 2 for wrong arguments, 1
// when something did not happen as it should.
func command(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(errOut)
	count := flags.Int("nodes", 5, fmt.Sprintf("how many nodes to start, %d to %d", fewestNodes, mostNodes))
	verbose := flags.Bool("v", false, "print the log of the library to standard error")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || *count < fewestNodes || *count > mostNodes:
		fmt.Fprintf(errOut, "cluster: no arguments but flags, and %d to %d nodes\n", fewestNodes, mostNodes)
		return 2
	}
	logs := io.Discard
	if *verbose {
		logs = errOut
	}
	s := newShow(*count, out, logs)
	defer s.shutdown()
	if err := s.run(ctx); err != nil {
		fmt.Fprintf(errOut, "cluster: %v\n", err)
		return 1
	}
	return 0
}

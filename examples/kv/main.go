// Command kv is a small key-value store that each of its nodes holds whole. It
// is built on the delegates of the library alone: a change is broadcast by
// gossip, who comes late gets everything in a full exchange, and of two changes
// of one key the later one wins.
//
//	go run ./examples/kv -name a -http 127.0.0.1:8001 -gossip 127.0.0.1:7001
//	go run ./examples/kv -name b -http 127.0.0.1:8002 -gossip 127.0.0.1:7002 -join 127.0.0.1:7001
//
//	curl -X PUT    -d '"blue"' http://127.0.0.1:8001/kv/colour
//	curl           http://127.0.0.1:8002/kv/colour
//	curl           http://127.0.0.1:8002/kv
//	curl -X DELETE http://127.0.0.1:8002/kv/colour
//	curl           http://127.0.0.1:8001/members
//
// A value is any JSON; with its key it has to fit into one gossip packet. A node
// that has started prints one line of JSON with its addresses, and leaves the
// cluster when it is interrupted. Data lives as long as one node of the cluster.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-83836a96/memberlist"
)

// settings are what the flags say.
type settings struct {
	name   string
	http   string
	gossip string
	join   string
	key    string
}

// started is what a node prints when it is ready.
type started struct {
	Name   string `json:"name"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command runs the program and returns its exit status.
func command(ctx context.Context, args []string, out, errOut io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("kv", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&s.name, "name", "", "unique name of this node; default: the host name")
	flags.StringVar(&s.http, "http", "127.0.0.1:0", "address to serve HTTP on; port 0 is any")
	flags.StringVar(&s.gossip, "gossip", "127.0.0.1:0", "IP address and port for the cluster; port 0 is any")
	flags.StringVar(&s.join, "join", "", "comma-separated addresses of nodes to join")
	flags.StringVar(&s.key, "key", "", "key to encrypt with, 16, 24 or 32 bytes in hex")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := run(ctx, s, out, errOut); err != nil {
		fmt.Fprintf(errOut, "kv: %v\n", err)
		return 1
	}
	return 0
}

// run starts a node, serves until ctx is done, and leaves the cluster.
func run(ctx context.Context, s settings, out, errOut io.Writer) error {
	replica := newReplica(newStore(time.Now))
	config, err := configure(s, replica, errOut)
	if err != nil {
		return err
	}
	list, err := memberlist.Create(config)
	if err != nil {
		return err
	}
	defer list.Shutdown()
	replica.attach(list)
	if s.join != "" {
		if _, err := list.JoinContext(ctx, strings.Split(s.join, ",")); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", s.http)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(started{
		Name:   config.Name,
		HTTP:   listener.Addr().String(),
		Gossip: list.LocalNode().Address(),
	}); err != nil {
		return err
	}
	if err := serve(ctx, listener, newAPI(replica, list)); err != nil {
		return err
	}
	leaving, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return list.LeaveContext(leaving)
}

// configure makes the library's configuration from the flags.
func configure(s settings, replica *replica, errOut io.Writer) (*memberlist.Config, error) {
	config := memberlist.DefaultLocalConfig()
	if s.name != "" {
		config.Name = s.name
	}
	host, port, err := net.SplitHostPort(s.gossip)
	if err != nil {
		return nil, err
	}
	if config.BindPort, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	config.BindAddr = host
	config.AdvertisePort = config.BindPort
	if config.SecretKey, err = hex.DecodeString(s.key); err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	config.Delegate = replica
	config.Logger = log.New(errOut, config.Name+" ", log.LstdFlags)
	return config, nil
}

// serve answers HTTP requests until ctx is done.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return server.Close()
	}
	return nil
}

// Command dropin is a program as it is written for hashicorp/memberlist. It is
// built outside of this module, with a replace in its go.mod, so it proves that
// one line is enough.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/memberlist"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dropin:", err)
		os.Exit(1)
	}
	fmt.Println("two nodes met, talked and parted")
}

type delegate struct {
	messages chan string
}

func (d delegate) NodeMeta(int) []byte             { return []byte("meta") }
func (d delegate) NotifyMsg(msg []byte)            { d.messages <- string(msg) }
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

func start(name string, d delegate, events chan memberlist.NodeEvent) (*memberlist.Memberlist, error) {
	config := memberlist.DefaultLocalConfig()
	config.Name = name
	config.BindAddr = "127.0.0.1"
	config.BindPort = 0
	config.SecretKey = []byte("0123456789abcdef")
	config.LogOutput = io.Discard
	config.Delegate = d
	config.Events = &memberlist.ChannelEventDelegate{Ch: events}
	return memberlist.Create(config)
}

func run() error {
	d := delegate{messages: make(chan string, 1)}
	events := make(chan memberlist.NodeEvent, 16)
	first, err := start("first", d, events)
	if err != nil {
		return err
	}
	defer first.Shutdown()
	second, err := start("second", d, make(chan memberlist.NodeEvent, 16))
	if err != nil {
		return err
	}
	defer second.Shutdown()

	if n, err := second.Join([]string{first.LocalNode().Address()}); err != nil || n != 1 {
		return fmt.Errorf("joined %d nodes: %w", n, err)
	}
	if n := second.NumMembers(); n != 2 {
		return fmt.Errorf("%d members", n)
	}
	if err := awaitEvent(events, memberlist.NodeJoin, "second"); err != nil {
		return err
	}
	if err := second.SendReliable(first.LocalNode(), []byte("hello")); err != nil {
		return err
	}
	select {
	case <-d.messages:
	case <-time.After(10 * time.Second):
		return errors.New("no message arrived")
	}
	if err := second.Leave(10 * time.Second); err != nil {
		return err
	}
	return awaitEvent(events, memberlist.NodeLeave, "second")
}

func awaitEvent(events <-chan memberlist.NodeEvent, kind memberlist.NodeEventType, name string) error {
	limit := time.After(10 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Event == kind && e.Node.Name == name {
				return nil
			}
		case <-limit:
			return fmt.Errorf("no event %d of %s", kind, name)
		}
	}
}

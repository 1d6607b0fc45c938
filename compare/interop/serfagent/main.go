// Serfagent is a small program around Serf: one agent that is driven by lines
// on standard input and answers with lines on standard output. It is built
// twice, on github.com/hashicorp/memberlist and on this repository's library,
// and agents of both kinds form one cluster.
//
// Each command line is a JSON array of strings, the first being the command; the
// answer is a JSON object. Events are collected and given out by "events".
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Answer is what one command brings. A failed one has only Error.
type Answer struct {
	Error   string            `json:",omitempty"`
	Lines   []string          `json:",omitempty"`
	Members map[string]Member `json:",omitempty"`
	Count   int               `json:",omitempty"`
}

// Member is a member as Serf lists it.
type Member struct {
	Status string
	Tags   map[string]string
}

func main() {
	log.SetFlags(0)
	var (
		name = flag.String("name", "", "node `name`")
		bind = flag.String("bind", "127.0.0.1", "`IP` to listen on")
		port = flag.Int("port", 0, "port to listen on")
		key  = flag.String("key", "", "gossip `key` in base64")
		tags = flag.String("tags", "{}", "tags as JSON `object`")
		snap = flag.String("snapshot", "", "snapshot `file`")
	)
	flag.Parse()
	a, err := newAgent(*name, *bind, *port, *key, *tags, *snap)
	if err != nil {
		log.Fatal(err)
	}
	if err := a.serve(os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// agent is Serf and what it has told so far.
type agent struct {
	serf *serf.Serf
	name string

	mu     sync.Mutex
	events []string
}

func newAgent(name, bind string, port int, key, tags, snapshot string) (*agent, error) {
	a := &agent{name: name}
	events := make(chan serf.Event, 1024)
	conf := serf.DefaultConfig()
	conf.NodeName, conf.EventCh, conf.SnapshotPath = name, events, snapshot
	conf.MemberlistConfig = memberlist.DefaultLocalConfig()
	conf.MemberlistConfig.Name = name
	conf.MemberlistConfig.BindAddr, conf.MemberlistConfig.BindPort = bind, port
	conf.MemberlistConfig.ProbeInterval, conf.MemberlistConfig.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
	conf.MemberlistConfig.RetransmitMult = 8 // few nodes: a query must not miss one by chance
	conf.ReconnectInterval = 500 * time.Millisecond
	conf.LeavePropagateDelay = 500 * time.Millisecond
	conf.LogOutput, conf.MemberlistConfig.LogOutput = os.Stderr, os.Stderr
	if err := json.Unmarshal([]byte(tags), &conf.Tags); err != nil {
		return nil, err
	}
	if key != "" {
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return nil, err
		}
		if conf.MemberlistConfig.Keyring, err = memberlist.NewKeyring([][]byte{raw}, raw); err != nil {
			return nil, err
		}
	}
	conf.Init()
	go a.collect(events)
	var err error
	a.serf, err = serf.Create(conf)
	return a, err
}

// collect notes events, and answers queries with the node's name.
func (a *agent) collect(events <-chan serf.Event) {
	for e := range events {
		var lines []string
		switch e := e.(type) {
		case serf.UserEvent:
			lines = append(lines, "user "+e.Name+" "+string(e.Payload))
		case *serf.Query:
			lines = append(lines, "query "+e.Name+" "+string(e.Payload))
			if err := e.Respond([]byte(a.name + " heard " + string(e.Payload))); err != nil {
				log.Print(err)
			}
		case serf.MemberEvent:
			for _, m := range e.Members {
				lines = append(lines, e.EventType().String()+" "+m.Name)
			}
		}
		a.mu.Lock()
		a.events = append(a.events, lines...)
		a.mu.Unlock()
	}
}

// serve answers commands until "quit" or the end of the input.
func (a *agent) serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var command []string
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil || len(command) == 0 {
			return fmt.Errorf("bad command %q: %w", lines.Text(), err)
		}
		if command[0] == "quit" {
			return a.serf.Shutdown()
		}
		answer, err := a.do(command[0], command[1:])
		if err != nil {
			answer = Answer{Error: err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), a.serf.Shutdown())
}

func (a *agent) do(command string, args []string) (Answer, error) {
	switch command {
	case "join":
		n, err := a.serf.Join(args, false)
		return Answer{Count: n}, err
	case "members":
		return a.members(), nil
	case "events":
		a.mu.Lock()
		defer a.mu.Unlock()
		return Answer{Lines: slices.Clone(a.events)}, nil
	case "event":
		return Answer{}, a.serf.UserEvent(args[0], []byte(args[1]), false)
	case "query":
		return a.query(args[0], args[1])
	case "tags":
		var tags map[string]string
		if err := json.Unmarshal([]byte(args[0]), &tags); err != nil {
			return Answer{}, err
		}
		return Answer{}, a.serf.SetTags(tags)
	case "leave":
		return Answer{}, a.serf.Leave()
	case "force-leave":
		return Answer{}, a.serf.RemoveFailedNode(args[0])
	}
	return a.key(command, args)
}

func (a *agent) members() Answer {
	all := make(map[string]Member)
	for _, m := range a.serf.Members() {
		all[m.Name] = Member{Status: m.Status.String(), Tags: m.Tags}
	}
	return Answer{Members: all, Count: len(all)}
}

// query waits for everyone's ack and answer, or until the time is over.
func (a *agent) query(name, payload string) (Answer, error) {
	response, err := a.serf.Query(name, []byte(payload), &serf.QueryParam{RequestAck: true, Timeout: 10 * time.Second})
	if err != nil {
		return Answer{}, err
	}
	defer response.Close()
	var answer Answer
	everyone := len(a.serf.Members())
	for answer.Count < everyone || len(answer.Lines) < everyone {
		select {
		case _, open := <-response.AckCh():
			if !open {
				return answer, nil
			}
			answer.Count++
		case r, open := <-response.ResponseCh():
			if !open {
				return answer, nil
			}
			answer.Lines = append(answer.Lines, string(r.Payload))
		}
	}
	slices.Sort(answer.Lines)
	return answer, nil
}

func (a *agent) key(command string, args []string) (Answer, error) {
	manager := a.serf.KeyManager()
	var response *serf.KeyResponse
	var err error
	switch command {
	case "install-key":
		response, err = manager.InstallKey(args[0])
	case "use-key":
		response, err = manager.UseKey(args[0])
	case "remove-key":
		response, err = manager.RemoveKey(args[0])
	case "list-keys":
		response, err = manager.ListKeys()
	default:
		return Answer{}, fmt.Errorf("no command %q", command)
	}
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Count: response.NumResp - response.NumErr}
	for key, holders := range response.Keys {
		answer.Lines = append(answer.Lines, fmt.Sprintf("%s %d", key, holders))
	}
	slices.Sort(answer.Lines)
	return answer, nil
}

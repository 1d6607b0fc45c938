package memberlist

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

// Start from a preset and change what has to differ.
func ExampleDefaultLANConfig() {
	config := DefaultLANConfig()
	config.Name = "web-1"
	config.BindPort = 0 // let the system choose
	config.Label = "production"
	config.StructuredLogger = slog.New(slog.NewJSONHandler(os.Stderr, nil))

	fmt.Println(config.Name, "probes every", config.ProbeInterval)
	// Output: web-1 probes every 1s
}

// The presets differ in their timeout.
func ExampleDefaultWANConfig() {
	for _, config := range []*Config{
		DefaultLocalConfig(),
		DefaultLANConfig(),
		DefaultWANConfig(),
	} {
		fmt.Println(config.ProbeInterval, config.ProbeTimeout, config.TCPTimeout)
	}
	// Output:
	// 1s 200ms 1s
	// 1s 500ms 10s
	// 5s 3s 30s
}

// Accept members from certain networks only.
func ExampleParseCIDRs() {
	networks, err := ParseCIDRs([]string{"10.0.0.0/8", "fd00::/8"})
	if err != nil {
		fmt.Println(err)
		return
	}
	config := DefaultLANConfig()
	config.CIDRsAllowed = networks

	fmt.Println(config.IPAllowed(net.ParseIP("10.1.2.3")))
	err = config.IPAllowed(net.ParseIP("192.0.2.1"))
	fmt.Println(err, errors.Is(err, ErrRejected))
	// Output:
	// <nil>
	// 192.0.2.1 is not allowed true
}

// Read events from a channel instead of implementing EventDelegate.
func ExampleChannelEventDelegate() {
	events := make(chan NodeEvent, 16)
	config := DefaultLocalConfig()
	config.Events = &ChannelEventDelegate{Ch: events}

	// A running node makes this call.
	config.Events.NotifyJoin(&Node{Name: "web-2"})

	select {
	case event := <-events:
		fmt.Println(event.Node.Name, event.Event == NodeJoin)
	case <-time.After(time.Second):
		fmt.Println("nothing happened")
	}
	// Output: web-2 true
}

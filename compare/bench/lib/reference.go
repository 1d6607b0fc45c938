//go:build !ours

package lib

import "github.com/hashicorp/memberlist"

// Name tells which library this is.
const Name = "reference"

type (
	Address              = memberlist.Address
	Broadcast            = memberlist.Broadcast
	Config               = memberlist.Config
	Keyring              = memberlist.Keyring
	Memberlist           = memberlist.Memberlist
	Node                 = memberlist.Node
	Packet               = memberlist.Packet
	TransmitLimitedQueue = memberlist.TransmitLimitedQueue
)

var (
	Create           = memberlist.Create
	DefaultLANConfig = memberlist.DefaultLANConfig
	NewKeyring       = memberlist.NewKeyring
)

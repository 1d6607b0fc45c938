package memberlist

// What comes from the network is kept for long: in the table, in broadcasts, as
// pending verdicts about nodes that are not known. So nothing gets past the decoders
// that could not be said of a node that works. Packets and entries of a push/pull are
// held to the same bounds, which is what nodes can gossip.

const (
	// maxNameLen is the longest name of a node. With it, the longest metadata and
	// an IPv6 address an alive message takes 1100 bytes of the 1400 of a default
	// packet; with the longest label and encryption version 1 it still fits.
	maxNameLen = 512

	// maxVersionsLen is the longest version array. Six bytes are in use (W66).
	maxVersionsLen = 16
)

// checkBounds reports what is out of bounds in a message.

func (m *alive) checkBounds() error {
	return checkNode(m.Node, m.Addr, m.Meta, m.Vsn)
}

func (m *pushNodeState) checkBounds() error {
	return checkNode(m.Name, m.Addr, m.Meta, m.Vsn)
}

func (m *suspect) checkBounds() error {
	return checkNames(m.Node, m.From)
}

func (m *ping) checkBounds() error {
	if err := checkNames(m.Node, m.SourceNode); err != nil {
		return err
	}
	return checkSource(m.SourceAddr)
}

func (m *indirectPing) checkBounds() error {
	if err := checkNames(m.Node, m.SourceNode); err != nil {
		return err
	}
	if err := checkAddr(m.Target); err != nil {
		return err
	}
	return checkSource(m.SourceAddr)
}

// checkNode holds what is said of a node to its bounds (P167).
func checkNode(name borrowed, addr, meta, vsn []byte) error {
	switch {
	case name.len() > maxNameLen:
		return nameTooLong(name.len())
	case len(meta) > MetaMaxSize:
		return newKindError(ErrTooLarge, "meta data of %d bytes is over the limit of %d", len(meta), MetaMaxSize)
	case len(vsn) > maxVersionsLen:
		return newKindError(ErrTooLarge, "version array of %d bytes is over the limit of %d", len(vsn), maxVersionsLen)
	}
	return checkAddr(addr)
}

func checkNames(node, from borrowed) error {
	if n := max(node.len(), from.len()); n > maxNameLen {
		return nameTooLong(n)
	}
	return nil
}

func nameTooLong(n int) error {
	return newKindError(ErrTooLarge, "node name of %d bytes is over the limit of %d", n, maxNameLen)
}

// checkAddr refuses what is no IP address.
func checkAddr(addr []byte) error {
	if len(addr) != 4 && len(addr) != 16 {
		return newKindError(ErrMalformed, "address has %d bytes, not 4 or 16", len(addr))
	}
	return nil
}

// checkSource is checkAddr for an address that may be left out (W9).
func checkSource(addr []byte) error {
	if len(addr) == 0 {
		return nil
	}
	return checkAddr(addr)
}

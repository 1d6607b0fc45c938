package memberlist

// batchedPacket is a packet that waits to be sent together with others.
type batchedPacket struct {
	end int // where the packet ends in sealed
	to  destination
}

// maxBatch bounds what waits, and with it the memory: one packet can ask for
// hundreds of answers.
const maxBatch = 16

// takeBatching returns a scratch that gathers packets until giveBatching, if the
// transport can send them together.
func (m *Memberlist) takeBatching() *packetScratch {
	s := m.takeScratch()
	s.batching = m.udp != nil
	return s
}

func (m *Memberlist) giveBatching(s *packetScratch) {
	m.sendBatch(s)
	s.batching = false
	m.giveScratch(s)
}

// addToBatch keeps the packet that was sealed last for sendBatch.
func (m *Memberlist) addToBatch(s *packetScratch, to destination, size int) {
	if to.node == nil {
		to.name = "" // may be part of a buffer that is used again meanwhile
	}
	s.sealed = s.sealed[:len(s.sealed)+size]
	s.batched = append(s.batched, batchedPacket{len(s.sealed), to})
	if len(s.batched) == maxBatch {
		m.sendBatch(s)
	}
}

// sendBatch sends the packets that s has gathered.
func (m *Memberlist) sendBatch(s *packetScratch) {
	if len(s.batched) == 0 {
		return
	}
	start := 0
	for i := range s.batched {
		p := &s.batched[i]
		s.batch = append(s.batch, outDatagram{buf: s.sealed[start:p.end], to: p.to.addr})
		start = p.end
	}
	m.udp.sendDirectBatch(s.batch)
	for i := range s.batch {
		if d := &s.batch[i]; d.err != nil {
			m.logUnsent(s.batched[i].to, m.explainSize(d.err, len(d.buf)))
		}
	}
	clear(s.batch)
	clear(s.batched)
	s.batch, s.batched, s.sealed = s.batch[:0], s.batched[:0], s.sealed[:0]
}

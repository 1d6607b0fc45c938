package memberlist

// batchedPacket is a packet that waits to be sent together with others.
type batchedPacket struct {
	end int // where the packet ends in sealed
	to  destination
}

// maxBatch bounds what waits, and with it the memory: one packet can ask for
// hundreds of answers.
const maxBatch = 16

func (o *outbound) takeScratch() *packetScratch { return o.scratch.Get().(*packetScratch) }

func (o *outbound) giveScratch(s *packetScratch) {
	s.clearMessages()
	o.scratch.Put(s)
}

// takeBatching returns a scratch that gathers packets until giveBatching, if the
// transport can send them together.
func (o *outbound) takeBatching() *packetScratch {
	s := o.takeScratch()
	s.batching = o.direct != nil
	return s
}

func (o *outbound) giveBatching(s *packetScratch) {
	o.sendBatch(s)
	s.batching = false
	o.giveScratch(s)
}

// addToBatch keeps the packet that was sealed last for sendBatch.
func (o *outbound) addToBatch(s *packetScratch, to destination, size int) {
	if to.node == nil {
		to.name = "" // may be part of a buffer that is used again meanwhile
	}
	s.sealed = s.sealed[:len(s.sealed)+size]
	s.batched = append(s.batched, batchedPacket{len(s.sealed), to})
	if len(s.batched) == maxBatch {
		o.sendBatch(s)
	}
}

// sendBatch sends the packets that s has gathered.
func (o *outbound) sendBatch(s *packetScratch) {
	if len(s.batched) == 0 {
		return
	}
	start := 0
	for i := range s.batched {
		p := &s.batched[i]
		s.batch = append(s.batch, outDatagram{buf: s.sealed[start:p.end], to: p.to.addr})
		start = p.end
	}
	o.direct.sendDirectBatch(s.batch)
	for i := range s.batch {
		if d := &s.batch[i]; d.err != nil {
			o.logUnsent(s.batched[i].to, o.explainSize(d.err, len(d.buf)))
		}
	}
	clear(s.batch)
	clear(s.batched)
	s.batch, s.batched, s.sealed = s.batch[:0], s.batched[:0], s.sealed[:0]
}

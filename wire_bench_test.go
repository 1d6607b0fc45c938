package memberlist

import (
	"bytes"
	"compress/lzw"
	"crypto/rand"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkDecode(b *testing.B) {
	for _, m := range []coded{
		&alive{Incarnation: 70_000, Node: borrow("node-0001"), Addr: []byte{10, 0, 0, 1}, Port: 7946, Vsn: []byte{1, 5, 2, 0, 0, 0}},
		&suspect{Incarnation: 3, Node: borrow("node-0001"), From: borrow("node-0002")},
		&ping{SeqNo: 900, Node: borrow("node-0001"), SourceAddr: []byte{10, 0, 0, 1}, SourcePort: 7946, SourceNode: borrow("node-0002")},
		&ack{SeqNo: 900},
	} {
		encoded := m.appendTo(nil)
		b.Run(messageType(encoded[0]).String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.decode(encoded[1:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeAlive(b *testing.B) {
	m := alive{Incarnation: 70_000, Node: borrow("node-0001"), Addr: []byte{10, 0, 0, 1}, Port: 7946, Vsn: []byte{1, 5, 2, 0, 0, 0}}
	dst := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		dst = m.appendTo(dst[:0])
	}
}

// benchmarkConfigs are the layers that cost something.
func benchmarkConfigs(b *testing.B) map[string]*Config {
	return map[string]*Config{
		"plain":         plainConfig(),
		"lzw":           {ProtocolVersion: 2, EnableCompression: true},
		"aes":           {ProtocolVersion: 2, Keyring: testRing(b, "a"), GossipVerifyIncoming: true, GossipVerifyOutgoing: true},
		"label+aes+lzw": {ProtocolVersion: 2, Keyring: testRing(b, "a"), GossipVerifyIncoming: true, GossipVerifyOutgoing: true, EnableCompression: true, Label: "blue"},
	}
}

func BenchmarkPacket(b *testing.B) {
	for name, cfg := range benchmarkConfigs(b) {
		for size, content := range map[string][]byte{
			"ack":  (&ack{SeqNo: 900}).appendTo(nil),
			"ping": (&ping{SeqNo: 900, Node: borrow("node-0001"), SourceAddr: []byte{10, 0, 0, 1}, SourcePort: 7946, SourceNode: borrow("node-0002")}).appendTo(nil),
			"full": sampleCompound(20),
		} {
			w := newWire(cfg)
			r := newPacketReader(w)
			dst := make([]byte, 0, 4096)
			packet, err := w.sealPacket(nil, content, true)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("seal/"+size+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.sealPacket(dst, content, true); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("read/"+size+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := r.read(packet); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPushPull(b *testing.B) {
	msg := samplePushPull(10_000, nil)
	for name, cfg := range benchmarkConfigs(b) {
		w := newWire(cfg)
		stream := streamOf(b, cfg, msg)
		b.Run("write/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var conn memoryConn
			for b.Loop() {
				conn.written = conn.written[:0]
				if _, err := w.writeStream(&conn, msg, true); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("read/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var list []pushNodeState
			for b.Loop() {
				r, _, err := w.openInbound(&memoryConn{unread: stream})
				if err != nil {
					b.Fatal(err)
				}
				if _, list, _, err = readPushPull(r, list[:0]); err != nil {
					b.Fatal(err)
				}
				r.release()
			}
		})
	}
}

func BenchmarkLZW(b *testing.B) {
	for name, src := range map[string][]byte{
		"ping":   sampleCompound(1),
		"packet": sampleCompound(20),
		"stream": samplePushPull(10_000, nil),
	} {
		packed := standardLZW(b, src)
		dst := make([]byte, 0, 2*len(src)+100)
		b.Run("compress/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				appendLZW(dst, src, len(packed))
			}
		})
		b.Run("compress/"+name+"/standard", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			var out bytes.Buffer
			w := lzw.NewWriter(&out, lzw.LSB, 8).(*lzw.Writer)
			for b.Loop() {
				out.Reset()
				w.Reset(&out, lzw.LSB, 8)
				_, _ = w.Write(src)
				_ = w.Close()
			}
		})
		b.Run("expand/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				_, _ = expandLZW(dst, packed, len(src))
			}
		})
		b.Run("expand/"+name+"/standard", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			r := lzw.NewReader(bytes.NewReader(packed), lzw.LSB, 8).(*lzw.Reader)
			for b.Loop() {
				r.Reset(bytes.NewReader(packed), lzw.LSB, 8)
				if _, err := io.ReadFull(r, dst[:len(src)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// State that does not compress, sealed: what it costs to find that out.
func BenchmarkStreamOfRandomBytes(b *testing.B) {
	random := make([]byte, 15<<20)
	_, _ = rand.Read(random)
	for name, compress := range map[string]bool{"compressed": true, "plain": false} {
		b.Run(name, func(b *testing.B) {
			cfg := plainConfig()
			cfg.Keyring, cfg.GossipVerifyOutgoing, cfg.EnableCompression = testRing(b, "a"), true, compress
			w := newWire(cfg)
			for b.Loop() {
				var conn discardConn
				_, err := w.writeStream(&conn, random, true)
				require.NoError(b, err)
			}
		})
	}
}

type discardConn struct{ memoryConn }

func (c *discardConn) Write(p []byte) (int, error) { return len(p), nil }

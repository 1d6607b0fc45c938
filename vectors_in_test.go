package memberlist

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"
)

// The recorded inputs are fed to a running node: W2 to W84 and section 13 of the
// behaviour, P92 to P114, as seen from outside. What comes back is taken apart
// here without the help of the code under test.

// inVector is a recorded input with everything that is known to follow from it.
type inVector struct {
	vector
	Expect inExpect `json:"expect"`
	Ours   *struct {
		Reason string   `json:"reason"`
		Expect inExpect `json:"expect"`
	} `json:"ours"`
}

// inExpect is what can be seen of a node that got an input.
type inExpect struct {
	Outcome         string            `json:"outcome"`
	Replies         []inReply         `json:"replies"`
	Rebroadcast     []observedMessage `json:"rebroadcast"`
	UserMsgs        []string          `json:"user_msgs"`
	MergedUserState []string          `json:"merged_user_state"`
	Events          []string          `json:"events"`
	Members         []string          `json:"members"`
	LogLevels       []string          `json:"log_levels"`

	JoinCount         int    `json:"join_count"`
	JoinError         bool   `json:"join_error"`
	JoinErrorContains string `json:"join_error_contains"`
}

type inReply struct {
	To       string            `json:"to"`
	ToName   string            `json:"to_name"`
	CRC      bool              `json:"crc"`
	Messages []observedMessage `json:"messages"`
}

// observedMessage is a message on the wire. Byte strings are in hex but for names.
type observedMessage struct {
	Type      string           `json:"type"`
	Code      int              `json:"code"`
	Fields    map[string]any   `json:"fields"`
	KeyOrder  []string         `json:"key_order"`
	Header    map[string]any   `json:"header"`
	Nodes     []map[string]any `json:"nodes"`
	UserState *string          `json:"user_state"`
}

// readInVectors reads the inputs of all files.
func readInVectors(t *testing.T) []inVector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectorFiles, "*.json*"))
	require.NoError(t, err)
	var found []inVector
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, ".gz") {
			content = readCompressedFile(t, file)
		}
		var all []inVector
		require.NoError(t, json.Unmarshal(content, &all))
		for _, v := range all {
			if v.Direction != "out" {
				found = append(found, v)
			}
		}
	}
	return found
}

func TestVectorsInOnARunningNode(t *testing.T) {
	checkInVectors(t, false)
}

// What comes in is lent to the node, as by NetTransport.
func TestVectorsInOnLentMemory(t *testing.T) {
	checkInVectors(t, true)
}

func checkInVectors(t *testing.T, lent bool) {
	vectors := readInVectors(t)
	require.Len(t, vectors, 233, "all recorded inputs")
	for _, v := range vectors {
		t.Run(v.Kind+"/"+v.Direction+"/"+v.Name, func(t *testing.T) {
			want := v.Expect
			if v.Ours != nil {
				require.NotEmpty(t, v.Ours.Reason)
				want = v.Ours.Expect
			}
			inBubble(t, func(t *testing.T) { checkInVector(t, &v, want, lent) })
		})
	}
}

func checkInVector(t *testing.T, v *inVector, want inExpect, lent bool) {
	n := newVectorNode(t, &v.Config)
	n.lent = lent
	defer n.kept.check(t)
	for _, packet := range v.Given {
		n.feed(packet, "10.99.0.9:7946")
	}
	n.forget()
	var got inExpect
	switch {
	case v.Direction == "in-reply":
		got = n.join(v.Hex)
	case v.Kind == "stream":
		got = n.stream(v.Hex)
	default:
		n.feed(v.Hex, v.From)
		got = n.observe()
	}
	if v.Reference == "crashes" {
		require.Contains(t, []string{"no effect", "error reply", "closed without reply"}, got.Outcome)
		want.Outcome, want.Replies, got.Replies = got.Outcome, nil, nil
	}
	require.Equal(t, want.Outcome, got.Outcome)
	compareObserved(t, want, got)
}

func compareObserved(t *testing.T, want, got inExpect) {
	t.Helper()
	require.Equal(t, want.Replies, got.Replies)
	require.ElementsMatch(t, want.Rebroadcast, withoutOrder(want.Rebroadcast, got.Rebroadcast))
	require.Equal(t, want.UserMsgs, got.UserMsgs)
	require.Equal(t, want.MergedUserState, got.MergedUserState)
	require.ElementsMatch(t, want.Events, got.Events)
	require.Equal(t, want.Members, got.Members)
	require.Equal(t, want.LogLevels, got.LogLevels)
	require.Equal(t, want.JoinCount, got.JoinCount)
	require.Equal(t, want.JoinError, got.JoinError)
	require.Contains(t, strings.Join([]string{got.JoinErrorContains}, ""), want.JoinErrorContains)
}

// withoutOrder drops the order of keys where the record does not tell it.
func withoutOrder(want, got []observedMessage) []observedMessage {
	if len(want) > 0 && want[0].KeyOrder == nil {
		for i := range got {
			got[i].KeyOrder = nil
		}
	}
	return got
}

// ---- the node

// vectorNode is a running node on a transport that does nothing of its own.
type vectorNode struct {
	t   *testing.T
	cfg *vectorConfig
	m   *Memberlist
	tr  *recordingTransport
	log *logLines

	kept *retainer // everything that the program was given
	lent bool      // packets are lent to the node

	mu     sync.Mutex
	events []string
	users  []string
	merged []string
}

func newVectorNode(t *testing.T, vc *vectorConfig) *vectorNode {
	n := &vectorNode{t: t, cfg: vc, log: new(logLines), kept: new(retainer)}
	n.tr = newRecordingTransport(net.IP(vc.AdvertiseIP), vc.AdvertisePort)
	cfg := n.config()
	m, err := n.kept.create(cfg)
	require.NoError(t, err)
	n.m = m
	t.Cleanup(func() { _ = m.Shutdown() })
	synctest.Wait()
	return n
}

// config is that of the recorded node. What the library adds to the failure
// detector of the reference is off: it would ask back in some cases.
func (n *vectorNode) config() *Config {
	cfg := DefaultLANConfig()
	wired := n.cfg.wireConfig(n.t)
	cfg.Name, cfg.Label, cfg.Keyring = wired.Name, wired.Label, wired.Keyring
	cfg.SkipInboundLabelCheck = wired.SkipInboundLabelCheck
	cfg.ProtocolVersion = wired.ProtocolVersion
	cfg.EnableCompression = wired.EnableCompression
	cfg.GossipVerifyIncoming = wired.GossipVerifyIncoming
	cfg.GossipVerifyOutgoing = wired.GossipVerifyOutgoing
	cfg.BindPort = n.cfg.BindPort
	cfg.RequireNodeNames = n.cfg.RequireNodeNames
	cfg.DelegateProtocolVersion = n.cfg.DelegateProtocolVersion
	cfg.DelegateProtocolMin, cfg.DelegateProtocolMax = n.cfg.DelegateProtocolMin, n.cfg.DelegateProtocolMax
	if len(n.cfg.CIDRsAllowed) > 0 {
		nets, err := ParseCIDRs(n.cfg.CIDRsAllowed)
		require.NoError(n.t, err)
		cfg.CIDRsAllowed = nets
	}
	if n.cfg.AckPayload != nil {
		cfg.Ping = fixedPayload(*n.cfg.AckPayload)
	}
	cfg.Delegate = &hooks{
		meta:  func() []byte { return append([]byte{}, n.cfg.Meta...) },
		msg:   func(msg []byte) { n.note(&n.users, hex.EncodeToString(msg)) },
		local: func(bool) []byte { return n.localState() },
		merge: func(state []byte, join bool) { n.note(&n.merged, fmt.Sprintf("join=%t %x", join, state)) },
	}
	cfg.Events = n
	cfg.Transport, cfg.LogOutput = n.tr, n.log
	cfg.ProbeInterval = 24 * time.Hour
	cfg.GossipInterval, cfg.PushPullInterval, cfg.QueueCheckInterval, cfg.ReconnectInterval = 0, 0, 0, 0
	cfg.RetransmitMult = 1
	cfg.detector.noAddressCheck = true
	return cfg
}

func (n *vectorNode) localState() []byte {
	if n.cfg.LocalState == nil {
		return nil
	}
	return *n.cfg.LocalState
}

type fixedPayload []byte

func (p fixedPayload) AckPayload() []byte                              { return p }
func (p fixedPayload) NotifyPingComplete(*Node, time.Duration, []byte) {}

func (n *vectorNode) NotifyJoin(node *Node)   { n.note(&n.events, "join "+node.Name) }
func (n *vectorNode) NotifyLeave(node *Node)  { n.note(&n.events, "leave "+node.Name) }
func (n *vectorNode) NotifyUpdate(node *Node) { n.note(&n.events, "update "+node.Name) }

func (n *vectorNode) note(list *[]string, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*list = append(*list, text)
}

// feed lets a packet come in and everything settle.
func (n *vectorNode) feed(packet []byte, from string) {
	if n.lent {
		addr, err := netip.ParseAddrPort(from)
		require.NoError(n.t, err)
		newPacketHandler(n.m.inbound).batch([]datagram{{buf: bytes.Clone(packet), from: addr, at: time.Now()}})
	} else {
		n.tr.packets <- &Packet{Buf: bytes.Clone(packet), From: vectorAddr(from), Timestamp: time.Now()}
	}
	synctest.Wait()
}

// forget drops what was observed so far.
func (n *vectorNode) forget() {
	n.m.broadcasts.Reset()
	n.tr.takeSent()
	n.log.with() // nothing is kept of it
	n.log.mu.Lock()
	n.log.buf.Reset()
	n.log.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events, n.users, n.merged = nil, nil, nil
}

// stream lets a stream come in, and end, and everything settle.
func (n *vectorNode) stream(content []byte) inExpect {
	conn := &recordedStream{in: bytes.NewReader(content)}
	n.tr.streams <- conn
	synctest.Wait()
	conn.mu.Lock()
	defer conn.mu.Unlock()
	require.True(n.t, conn.closed, "the stream is left open")
	got := n.observe()
	if len(conn.out.Bytes()) > 0 {
		msg := n.openStream(conn.out.Bytes())
		got.Replies = append(got.Replies, inReply{Messages: []observedMessage{msg}})
		got.Outcome = "accepted"
		if msg.Code == int(errorMsg) {
			got.Outcome = "error reply"
		}
	} else if got.Outcome == "no effect" {
		got.Outcome = "closed without reply"
	}
	return got
}

// join lets the node join a seed that answers with the given bytes.
func (n *vectorNode) join(answer []byte) inExpect {
	conn := &recordedStream{in: bytes.NewReader(answer)}
	n.tr.answer = conn
	count, err := n.m.Join([]string{"seed/10.0.0.9:7946"})
	synctest.Wait()
	got := n.observe()
	got.JoinCount, got.JoinError = count, err != nil
	if err != nil {
		got.JoinErrorContains = err.Error()
		got.Outcome = "join fails"
	}
	return got
}

// observe collects what can be seen of the node.
func (n *vectorNode) observe() inExpect {
	got := inExpect{LogLevels: n.logLevels()}
	for _, p := range n.tr.takeSent() {
		reply := n.openPacket(p.data)
		reply.To, reply.ToName = p.to.Addr, p.to.Name
		got.Replies = append(got.Replies, reply)
	}
	for _, msg := range n.m.broadcasts.GetBroadcasts(0, 1<<30) {
		got.Rebroadcast = append(got.Rebroadcast, observed(n.t, msg))
	}
	for _, member := range n.m.Members() {
		got.Members = append(got.Members, member.Name)
	}
	slices.Sort(got.Members)
	n.mu.Lock()
	defer n.mu.Unlock()
	got.Events, got.UserMsgs, got.MergedUserState = n.events, n.users, n.merged
	got.Outcome = "no effect"
	if len(got.Replies)+len(got.Rebroadcast)+len(got.Events)+len(got.UserMsgs)+len(got.MergedUserState) > 0 {
		got.Outcome = "accepted"
	}
	return got
}

// logLevels are the levels above INFO at which something was logged.
func (n *vectorNode) logLevels() []string {
	var levels []string
	for _, level := range []string{"ERR", "WARN"} {
		if len(n.log.with("["+level+"] memberlist: ")) > 0 {
			levels = append(levels, level)
		}
	}
	return levels
}

// ---- the transport

type vectorAddr string

func (a vectorAddr) Network() string { return "recorded" }
func (a vectorAddr) String() string  { return string(a) }

type sentPacket struct {
	data []byte
	to   Address
}

// recordingTransport keeps what is sent and answers every dial with one stream.
type recordingTransport struct {
	ip      net.IP
	port    int
	packets chan *Packet
	streams chan net.Conn
	answer  *recordedStream

	mu   sync.Mutex
	sent []sentPacket
}

func newRecordingTransport(ip net.IP, port int) *recordingTransport {
	return &recordingTransport{ip: ip, port: port, packets: make(chan *Packet), streams: make(chan net.Conn)}
}

func (r *recordingTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return r.ip, r.port, nil
}
func (r *recordingTransport) PacketCh() <-chan *Packet  { return r.packets }
func (r *recordingTransport) StreamCh() <-chan net.Conn { return r.streams }
func (r *recordingTransport) Shutdown() error           { return nil }

func (r *recordingTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return r.WriteToAddress(b, Address{Addr: addr})
}

func (r *recordingTransport) WriteToAddress(b []byte, addr Address) (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, sentPacket{data: bytes.Clone(b), to: addr})
	return time.Now(), nil
}

func (r *recordingTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return r.DialAddressTimeout(Address{Addr: addr}, timeout)
}

func (r *recordingTransport) DialAddressTimeout(Address, time.Duration) (net.Conn, error) {
	if r.answer == nil {
		return nil, errors.New("nobody there")
	}
	return r.answer, nil
}

func (r *recordingTransport) takeSent() []sentPacket {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// recordedStream is a connection whose other end has sent everything it has to
// say and then closed its half.
type recordedStream struct {
	in *bytes.Reader

	mu     sync.Mutex
	out    bytes.Buffer
	closed bool
}

func (s *recordedStream) Read(b []byte) (int, error) { return s.in.Read(b) }

func (s *recordedStream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	return s.out.Write(b)
}

func (s *recordedStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *recordedStream) LocalAddr() net.Addr              { return vectorAddr("10.0.0.1:7946") }
func (s *recordedStream) RemoteAddr() net.Addr             { return vectorAddr("10.99.0.9:7946") }
func (s *recordedStream) SetDeadline(time.Time) error      { return nil }
func (s *recordedStream) SetReadDeadline(time.Time) error  { return nil }
func (s *recordedStream) SetWriteDeadline(time.Time) error { return nil }

// ---- taking answers apart

// openPacket removes the layers that the recorded node was configured to write.
func (n *vectorNode) openPacket(b []byte) inReply {
	if label := n.cfg.Label; label != "" {
		header := append([]byte{244, byte(len(label))}, label...)
		require.True(n.t, bytes.HasPrefix(b, header), "no label")
		b = b[len(header):]
	}
	if len(n.cfg.Keys) > 0 {
		b = n.unseal(b, []byte(n.cfg.Label))
	}
	var reply inReply
	if b[0] == 12 {
		reply.CRC = true
		b = b[5:]
	}
	b = n.unpack(b)
	parts := [][]byte{b}
	if b[0] == 7 {
		parts = splitParts(n.t, b[1:])
	}
	for _, part := range parts {
		reply.Messages = append(reply.Messages, observed(n.t, part))
	}
	return reply
}

// openStream does the same for the answer on a stream, which has no label header.
func (n *vectorNode) openStream(b []byte) observedMessage {
	if len(n.cfg.Keys) > 0 {
		require.Equal(n.t, byte(10), b[0], "not sealed")
		length := binary.BigEndian.Uint32(b[1:5])
		require.Len(n.t, b, 5+int(length))
		b = n.unseal(b[5:], append(slices.Clone(b[:5]), n.cfg.Label...))
	}
	if b[0] == 9 {
		require.True(n.t, n.cfg.Compress, "streams are compressed as configured (W20)")
	}
	b = n.unpack(b)
	if b[0] == 6 {
		return observedState(n.t, b[1:])
	}
	return observed(n.t, b)
}

// unseal opens a box with the primary key (W27).
func (n *vectorNode) unseal(box, aad []byte) []byte {
	block, err := aes.NewCipher(n.cfg.Keys[0])
	require.NoError(n.t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(n.t, err)
	plain, err := gcm.Open(nil, box[1:13], box[13:], aad)
	require.NoError(n.t, err)
	if n.cfg.ProtocolVersion == 1 {
		require.Zero(n.t, box[0])
		require.Zero(n.t, len(plain)%16)
		return plain[:len(plain)-int(plain[len(plain)-1])]
	}
	require.Equal(n.t, byte(1), box[0])
	return plain
}

// unpack removes compression (W19).
func (n *vectorNode) unpack(b []byte) []byte {
	if b[0] != 9 {
		return b
	}
	fields, rest := readMap(n.t, b[1:])
	require.Empty(n.t, rest)
	plain, err := io.ReadAll(lzw.NewReader(bytes.NewReader(fields["Buf"].([]byte)), lzw.LSB, 8))
	require.NoError(n.t, err)
	return plain
}

func splitParts(t *testing.T, b []byte) [][]byte {
	count := int(b[0])
	lengths, rest := b[1:1+2*count], b[1+2*count:]
	var parts [][]byte
	for i := range count {
		size := binary.BigEndian.Uint16(lengths[2*i:])
		parts = append(parts, rest[:size])
		rest = rest[size:]
	}
	require.Empty(t, rest)
	return parts
}

// messageNamesInVectors are the names that the records use.
var messageNamesInVectors = map[byte]string{
	0: "ping", 2: "ackResp", 3: "suspect", 4: "alive", 5: "dead", 6: "pushPull", 11: "nackResp", 13: "err",
}

// observed describes an encoded message.
func observed(t *testing.T, msg []byte) observedMessage {
	t.Helper()
	fields, rest := readMap(t, msg[1:])
	require.Empty(t, rest)
	seen := observedMessage{
		Type: messageNamesInVectors[msg[0]], Code: int(msg[0]), Fields: jsonFields(fields), KeyOrder: keyOrder(fields, msg),
	}
	if msg[0] == byte(pingMsg) {
		require.NotZero(t, seen.Fields["SeqNo"])
		seen.Fields["SeqNo"] = 1.0 // the recorded number is that of a counter
	}
	return seen
}

// observedState describes a push/pull.
func observedState(t *testing.T, b []byte) observedMessage {
	t.Helper()
	header, rest := readMap(t, b)
	seen := observedMessage{Type: "pushPull", Code: 6, Header: jsonFields(header), KeyOrder: keyOrder(header, b)}
	for range int(seen.Header["Nodes"].(float64)) {
		var node map[string]any
		node, rest = readMap(t, rest)
		seen.Nodes = append(seen.Nodes, jsonFields(node))
	}
	slices.SortFunc(seen.Nodes, func(a, b map[string]any) int {
		return strings.Compare(a["Name"].(string), b["Name"].(string))
	})
	require.Len(t, rest, int(seen.Header["UserStateLen"].(float64)))
	user := hex.EncodeToString(rest)
	seen.UserState = &user
	return seen
}

// readMap reads one MessagePack map and returns what follows it.
func readMap(t *testing.T, b []byte) (fields map[string]any, rest []byte) {
	t.Helper()
	d := codec.NewDecoderBytes(b, new(codec.MsgpackHandle))
	require.NoError(t, d.Decode(&fields))
	return fields, b[d.NumBytesRead():]
}

// jsonFields turns fields into what they are in the records.
func jsonFields(fields map[string]any) map[string]any {
	converted := map[string]any{}
	for key, value := range fields {
		switch v := value.(type) {
		case []byte:
			converted[key] = hex.EncodeToString(v)
			if slices.Contains([]string{"Node", "From", "SourceNode", "Name", "Error"}, key) {
				converted[key] = string(v)
			}
		case uint64:
			converted[key] = float64(v)
		case int64:
			converted[key] = float64(v)
		default:
			converted[key] = v
		}
	}
	return converted
}

// keyOrder lists the keys as they stand in the message.
func keyOrder(fields map[string]any, msg []byte) []string {
	at := func(key string) int { return bytes.Index(msg, append([]byte{0xa0 | byte(len(key))}, key...)) }
	var keys []string
	for key := range fields {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return at(a) - at(b) })
	return keys
}

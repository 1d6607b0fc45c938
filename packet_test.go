package memberlist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// wireConfigs are configurations with every combination of layers.
func wireConfigs(t testing.TB) []*Config {
	t.Helper()
	var all []*Config
	for _, label := range []string{"", "blue-cluster"} {
		for _, keys := range []string{"", "a", "abc"} {
			for _, compression := range []bool{false, true} {
				for _, version := range []uint8{1, 2} {
					all = append(all, &Config{
						Label: label, Keyring: testRing(t, keys), EnableCompression: compression, ProtocolVersion: version,
						GossipVerifyIncoming: true, GossipVerifyOutgoing: true, UDPBufferSize: 1400,
					})
				}
			}
		}
	}
	return all
}

func describe(cfg *Config) string {
	return fmt.Sprintf("label %q, keys %q, compression %t, version %d", cfg.Label, letters(cfg.Keyring), cfg.EnableCompression, cfg.ProtocolVersion)
}

// plainConfig has no layer at all.
func plainConfig() *Config { return &Config{ProtocolVersion: 2, UDPBufferSize: 1400} }

// userMessagesIn reads a packet with a plain configuration and returns its user
// messages.
func userMessagesIn(t testing.TB, packet []byte) (texts []string, faults []error, err error) {
	t.Helper()
	r := newPacketReader(newWire(plainConfig()))
	msgs, err := r.read(packet)
	for _, msg := range msgs {
		require.Equal(t, userMsg, msg.kind())
		texts = append(texts, string(msg.body()))
	}
	return texts, r.faults, err
}

func user(text string) []byte { return append([]byte{byte(userMsg)}, text...) }

func withChecksum(content []byte) []byte {
	header := binary.BigEndian.AppendUint32([]byte{byte(checksumMsg)}, crc32.ChecksumIEEE(content))
	return append(header, content...)
}

// TestSealedPacketsAreReadBack checks W2.
func TestSealedPacketsAreReadBack(t *testing.T) {
	contents := [][]byte{user(""), user("short"), user(strings.Repeat("long ", 300)), sampleCompound(3)}
	for _, cfg := range wireConfigs(t) {
		t.Run(describe(cfg), func(t *testing.T) {
			w := newWire(cfg)
			r := newPacketReader(w)
			for _, content := range contents {
				for _, checksum := range []bool{false, true} {
					packet, err := w.sealPacket([]byte("before"), content, checksum)
					require.NoError(t, err)
					require.Equal(t, "before", string(packet[:6]))
					msgs, err := r.read(packet[6:])
					require.NoError(t, err)
					require.Empty(t, r.faults)
					var got []byte
					for _, msg := range msgs {
						got = append(got, msg...)
					}
					want := content
					if messageType(content[0]) == compoundMsg {
						want = content[2+2*int(content[1]):]
					}
					require.True(t, bytes.Equal(want, got))
				}
			}
		})
	}
}

// TestOutgoingPacketsArePlainWhenSealingIsOff checks W33.
func TestOutgoingPacketsArePlainWhenSealingIsOff(t *testing.T) {
	cfg := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyIncoming: true}
	packet, err := newWire(cfg).sealPacket(nil, user("text"), false)
	require.NoError(t, err)
	require.Equal(t, user("text"), packet)
}

// Keys that are added at run time count from the next packet on (W32).
func TestEncryptionFollowsTheKeyring(t *testing.T) {
	cfg := &Config{Keyring: new(Keyring), ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	w := newWire(cfg)
	r := newPacketReader(w)
	plain, err := w.sealPacket(nil, user("text"), false)
	require.NoError(t, err)
	require.Equal(t, user("text"), plain)

	require.NoError(t, cfg.Keyring.AddKey(testKey('a', 16)))
	sealed, err := w.sealPacket(nil, user("text"), false)
	require.NoError(t, err)
	require.Len(t, sealed, boxLen(boxPlain, len(plain)))
	_, err = r.read(plain)
	require.ErrorIs(t, err, ErrDecrypt)
	msgs, err := r.read(sealed)
	require.NoError(t, err)
	require.Len(t, msgs, 1)
}

// TestPlainPacketsPassIfIncomingIsNotVerified checks W34.
func TestPlainPacketsPassIfIncomingIsNotVerified(t *testing.T) {
	cfg := &Config{Keyring: testRing(t, "ab"), ProtocolVersion: 2, GossipVerifyOutgoing: true}
	w := newWire(cfg)
	r := newPacketReader(w)
	sealed, err := w.sealPacket(nil, user("sealed"), false)
	require.NoError(t, err)
	for _, packet := range [][]byte{user("plain"), sealed, user(strings.Repeat("plain ", 20))} {
		msgs, err := r.read(packet)
		require.NoError(t, err)
		require.Len(t, msgs, 1)
	}
}

// TestPacketsOpenWithAnyKey checks W31.
func TestPacketsOpenWithAnyKey(t *testing.T) {
	sender := &Config{Keyring: testRing(t, "abc"), ProtocolVersion: 2, GossipVerifyOutgoing: true}
	receiver := &Config{Keyring: testRing(t, "bca"), ProtocolVersion: 2, GossipVerifyIncoming: true}
	r := newPacketReader(newWire(receiver))
	for _, key := range []byte("abcabc") {
		require.NoError(t, sender.Keyring.UseKey(testKey(key, 16)))
		packet, err := newWire(sender).sealPacket(nil, user("text"), false)
		require.NoError(t, err)
		_, err = r.read(packet)
		require.NoError(t, err)
	}
	require.NoError(t, receiver.Keyring.RemoveKey(testKey('c', 16)))
	packet, err := newWire(sender).sealPacket(nil, user("text"), false)
	require.NoError(t, err)
	_, err = r.read(packet)
	require.ErrorIs(t, err, ErrDecrypt, "a key that was removed still opens")
}

func TestSealPacketReportsThatThereIsNoNonce(t *testing.T) {
	w := newWire(&Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyOutgoing: true})
	w.random = bytes.NewReader(nil)
	_, err := w.sealPacket(nil, user("text"), false)
	require.Error(t, err)
}

// TestSpaceForBroadcasts checks P72.
func TestSpaceForBroadcasts(t *testing.T) {
	for _, tc := range []struct {
		label, keys       string
		version           uint8
		sealing           bool
		gossip, onHundred int
	}{
		{"", "", 2, true, 1398, 1298},
		{"blue", "", 2, true, 1392, 1292},
		{"", "a", 2, true, 1369, 1269},
		{"", "a", 1, true, 1353, 1253},
		{"blue", "a", 2, true, 1363, 1263},
		{"", "a", 2, false, 1369, 1298},
	} {
		w := newWire(&Config{
			Label: tc.label, Keyring: testRing(t, tc.keys), ProtocolVersion: tc.version,
			GossipVerifyOutgoing: tc.sealing, UDPBufferSize: 1400,
		})
		require.Equal(t, tc.gossip, w.gossipSpace(), "%+v", tc)
		require.Equal(t, tc.onHundred, w.piggybackSpace(100), "%+v", tc)
		require.Zero(t, w.piggybackSpace(2000))
	}
	require.Zero(t, newWire(&Config{UDPBufferSize: 1}).gossipSpace())
}

// TestCompoundIsTakenApartInOrder checks W18.
func TestCompoundIsTakenApartInOrder(t *testing.T) {
	inner := appendCompound(nil, [][]byte{user("b"), user("c")})
	texts, faults, err := userMessagesIn(t, appendCompound(nil, [][]byte{user("a"), inner, user(""), user("d")}))
	require.NoError(t, err)
	require.Empty(t, faults)
	require.Equal(t, []string{"a", "b", "c", "", "d"}, texts)
}

// TestCompoundTruncatedTailKeepsCompleteParts checks W18.
func TestCompoundTruncatedTailKeepsCompleteParts(t *testing.T) {
	packet := appendCompound(nil, [][]byte{user("a"), user("b"), user("c")})
	texts, faults, err := userMessagesIn(t, packet[:len(packet)-3])
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, texts)
	require.Len(t, faults, 1)
	require.ErrorIs(t, faults[0], errTruncatedCompound)
}

// TestCompoundBadPartsDoNotSpoilTheOthers checks W18.
func TestCompoundBadPartsDoNotSpoilTheOthers(t *testing.T) {
	for name, bad := range map[string][]byte{
		"empty":             {},
		"unknown type":      {99},
		"checksum":          withChecksum(user("x")),
		"encrypted":         {byte(encryptMsg), 0},
		"bad compression":   compressedWith(0, []byte{1, 2, 3}),
		"no compressed map": {byte(compressMsg), 1},
		"no count":          {byte(compoundMsg)},
	} {
		t.Run(name, func(t *testing.T) {
			texts, faults, err := userMessagesIn(t, appendCompound(nil, [][]byte{user("a"), bad, user("b")}))
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b"}, texts)
			require.Len(t, faults, 1)
			require.ErrorIs(t, faults[0], ErrMalformed)
		})
	}
}

// TestCompoundOddities checks W18.
func TestCompoundOddities(t *testing.T) {
	texts, faults, err := userMessagesIn(t, []byte("\x07\x00rest"))
	require.NoError(t, err, "no parts are harmless")
	require.Empty(t, faults)
	require.Empty(t, texts)

	texts, faults, err = userMessagesIn(t, append(appendCompound(nil, [][]byte{user("a")}), "rest"...))
	require.NoError(t, err, "bytes behind the last part are ignored")
	require.Empty(t, faults)
	require.Equal(t, []string{"a"}, texts)

	for _, refused := range []string{"\x07", "\x07\x02\x00\x01\x00"} {
		_, _, err := userMessagesIn(t, []byte(refused))
		require.ErrorIs(t, err, ErrMalformed, "%q", refused)
	}
}

// TestSplitCompounds checks W17, W80.
func TestSplitCompounds(t *testing.T) {
	for _, tc := range []struct {
		total int
		sizes []int
	}{
		{0, nil}, {1, []int{1}}, {2, []int{2}}, {255, []int{255}}, {256, []int{255, 1}}, {511, []int{255, 255, 1}},
	} {
		msgs := slices.Repeat([][]byte{user("x")}, tc.total)
		var sizes []int
		for i, group := range splitCompounds(msgs) {
			require.Len(t, sizes, i)
			sizes = append(sizes, len(group))
		}
		require.Equal(t, tc.sizes, sizes)
	}
}

// TestPartsThatAreTooLongStayAlone checks W16.
func TestPartsThatAreTooLongStayAlone(t *testing.T) {
	fits, long := user(strings.Repeat("f", maxPartLen-1)), user(strings.Repeat("l", maxPartLen))
	small := user("s")
	var sizes []int
	for _, group := range splitCompounds([][]byte{long, small, fits, long, long, small}) {
		sizes = append(sizes, len(group))
		for _, part := range group {
			require.True(t, len(part) <= maxPartLen || len(group) == 1)
		}
	}
	require.Equal(t, []int{1, 2, 1, 1, 1}, sizes)

	texts, _, err := userMessagesIn(t, appendCompound(nil, [][]byte{fits, small}))
	require.NoError(t, err)
	require.Equal(t, []string{string(fits[1:]), "s"}, texts)

	for range splitCompounds([][]byte{long, small}) {
		break // stopping early is allowed
	}
}

// TestPacketCompressionNests checks W22.
func TestPacketCompressionNests(t *testing.T) {
	packet := user(strings.Repeat("text", 20))
	for range maxNesting {
		packet = appendLonger(nil, packet)
	}
	texts, _, err := userMessagesIn(t, packet)
	require.NoError(t, err)
	require.Equal(t, []string{strings.Repeat("text", 20)}, texts)

	_, _, err = userMessagesIn(t, appendLonger(nil, packet))
	require.ErrorIs(t, err, ErrMalformed, "W83: the depth is bounded")
}

// Parts that were decompressed one after the other must not overwrite each other (W22).
func TestSeveralCompressedParts(t *testing.T) {
	var parts [][]byte
	var want []string
	for i := range 50 {
		text := strings.Repeat(string(rune('a'+i%26)), 100*i)
		want = append(want, text)
		parts = append(parts, appendLonger(nil, user(text)))
	}
	texts, faults, err := userMessagesIn(t, appendCompound(nil, parts))
	require.NoError(t, err)
	require.Empty(t, faults)
	require.Equal(t, want, texts)
}

// TestNestedCompoundsAreBounded checks W83.
func TestNestedCompoundsAreBounded(t *testing.T) {
	packet := user("text")
	for range maxNesting {
		packet = appendCompound(nil, [][]byte{packet})
	}
	texts, faults, err := userMessagesIn(t, packet)
	require.NoError(t, err)
	require.Empty(t, faults)
	require.Equal(t, []string{"text"}, texts)

	texts, faults, err = userMessagesIn(t, appendCompound(nil, [][]byte{packet}))
	require.NoError(t, err)
	require.Empty(t, texts)
	require.Len(t, faults, 1)
}

// TestMessagesOfOnePacketAreBounded checks W83.
func TestMessagesOfOnePacketAreBounded(t *testing.T) {
	repeat := func(part []byte, n int) []byte { return appendCompound(nil, slices.Repeat([][]byte{part}, n)) }
	thousands := repeat(repeat(user(""), 255), 80)
	bomb := appendLonger(nil, thousands) // 20,400 messages
	require.Less(t, len(bomb), maxPartLen)
	r := newPacketReader(newWire(plainConfig()))
	msgs, err := r.read(bomb)
	require.NoError(t, err)
	require.Greater(t, len(msgs), maxPacketParts*9/10, "compounds count as parts")
	require.LessOrEqual(t, len(msgs), maxPacketParts)
	require.Len(t, r.faults, 1)
	require.ErrorIs(t, r.faults[0], ErrTooLarge)

	_, err = r.read(user("next"))
	require.NoError(t, err)
	require.Empty(t, r.faults)
	require.LessOrEqual(t, cap(r.unpacked), keepScratch, "memory of the bomb is still held")
}

// Parts that are bad cost time as well, and are bounded with the others (W83).
func TestBadPartsOfOnePacketAreBounded(t *testing.T) {
	empty := appendCompound(nil, make([][]byte, 255))
	packet := appendCompound(nil, slices.Repeat([][]byte{empty}, 120))
	r := newPacketReader(newWire(plainConfig()))
	_, err := r.read(packet)
	require.NoError(t, err)
	require.Len(t, r.faults, maxFaults)
	require.Zero(t, r.parts, "the bound was reached")
	require.Zero(t, r.budget-packetBudget)

	msgs, err := r.read(appendCompound(nil, slices.Repeat([][]byte{user("")}, 255)))
	require.NoError(t, err)
	require.Len(t, msgs, 255, "each packet has its own bound")
}

// What one packet unpacks to is held to the limit as a whole (W63, W83, W87).
func TestUnpackedSizeIsBounded(t *testing.T) {
	half := compressedWith(algorithmLZW, lzwOfRun(byte(userMsg), packetBudget/2))
	r := newPacketReader(newWire(plainConfig()))
	more := compressedWith(algorithmLZW, lzwOfRun(byte(userMsg), 1))
	msgs, err := r.read(appendCompound(nil, [][]byte{half, half, more, user("z")}))
	require.NoError(t, err)
	require.Len(t, msgs, 3, "all but the one that is over the limit")
	require.Len(t, r.faults, 1)
	require.ErrorIs(t, r.faults[0], ErrTooLarge)
}

// Data that fails to decompress is charged with what it produced until then, or a
// packet of such parts would make a node unpack without end (W83, W87).
func TestFailedDecompressionIsCharged(t *testing.T) {
	tooMuch := lzwOfRun(byte(userMsg), maxUnpacked+1)
	whole := lzwOfRun(byte(userMsg), packetBudget/2)
	for name, data := range map[string][]byte{
		"over the limit":      tooMuch,
		"without an end code": whole[:len(whole)-2],
	} {
		bad := compressedWith(algorithmLZW, data)
		parts := slices.Repeat([][]byte{bad}, 60_000/len(bad))
		r := newPacketReader(newWire(plainConfig()))
		_, err := r.read(appendCompound(nil, append(parts, user("z"))))
		require.NoError(t, err, name)
		require.NotEmpty(t, r.faults, name)
		require.Less(t, r.budget, packetBudget/100, "%s: the budget is used up", name)
		require.GreaterOrEqual(t, r.budget, 0, name)
		require.LessOrEqual(t, cap(r.unpacked), 2*packetBudget, "%s: it bounds the memory", name)
	}
}

// A failure in one level of nesting leaves less for the next.
func TestNestedDecompressionHasOneBudget(t *testing.T) {
	bomb := compressedWith(algorithmLZW, lzwOfRun(byte(userMsg), packetBudget+1))
	twice := appendLonger(nil, bomb)
	require.Less(t, len(twice), 10_000)
	r := newPacketReader(newWire(plainConfig()))
	_, err := r.read(appendCompound(nil, slices.Repeat([][]byte{twice}, 60_000/len(twice))))
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.budget, 0)
	require.Less(t, r.budget, packetBudget/100)
}

// A node takes packets as large as those that it sends, or that its transport
// carries (W87).
func TestBudgetOfAPacketGrowsWithItsSize(t *testing.T) {
	for _, tc := range []struct{ bufferSize, packet, want int }{
		{1400, 100, 1 << 20},
		{1400, longestDatagram, 1 << 20},
		{1400, 1 << 20, 16 << 20},
		{1400, 100 << 20, maxUnpacked},
		{10 << 20, 100, 20 << 20},
		{math.MaxInt, math.MaxInt, maxUnpacked},
	} {
		w := newWire(&Config{UDPBufferSize: tc.bufferSize})
		require.Equal(t, tc.want, w.packetBudget(tc.packet), "%+v", tc)
	}
}

// TestChecksum checks W26.
func TestChecksum(t *testing.T) {
	packet := withChecksum(user("text"))
	texts, _, err := userMessagesIn(t, packet)
	require.NoError(t, err)
	require.Equal(t, []string{"text"}, texts)

	for i := 1; i < len(packet); i++ {
		damaged := bytes.Clone(packet)
		damaged[i] ^= 0x10
		_, _, err := userMessagesIn(t, damaged)
		require.ErrorIs(t, err, errChecksum)
		require.ErrorIs(t, err, ErrMalformed)
	}
	for name, refused := range map[string][]byte{
		"too short":    packet[:4],
		"over nothing": withChecksum(nil),
		"twice":        withChecksum(packet),
	} {
		_, _, err := userMessagesIn(t, refused)
		require.ErrorIs(t, err, ErrMalformed, name)
		require.NotErrorIs(t, err, errChecksum, name)
	}
}

// W4, W15 and W76: what the first byte of a message leads to.
func TestTypesThatPacketsDoNotCarry(t *testing.T) {
	carried := []messageType{pingMsg, indirectPingMsg, ackMsg, suspectMsg, aliveMsg, deadMsg, userMsg, nackMsg}
	r := newPacketReader(newWire(plainConfig()))
	for kind := range 256 {
		if slices.Contains([]messageType{compoundMsg, compressMsg, labelMsg}, messageType(kind)) {
			continue
		}
		msgs, err := r.read([]byte{byte(kind), 1, 2})
		if slices.Contains(carried, messageType(kind)) {
			require.NoError(t, err)
			require.Equal(t, []message{{byte(kind), 1, 2}}, msgs)
			continue
		}
		require.ErrorIs(t, err, ErrMalformed, "%d", kind)
	}
}

// TestEmptyPackets checks W75.
func TestEmptyPackets(t *testing.T) {
	label := &Config{Label: "blue", ProtocolVersion: 2}
	sealed := &Config{Keyring: testRing(t, "a"), ProtocolVersion: 2, GossipVerifyIncoming: true}
	box := makeBox(t, boxPlain, sealed.Keyring.load()[0], nil, nil)
	for _, tc := range []struct {
		cfg    *Config
		packet []byte
	}{
		{plainConfig(), nil}, {label, []byte("\xf4\x04blue")}, {sealed, nil}, {sealed, box},
	} {
		_, err := newPacketReader(newWire(tc.cfg)).read(tc.packet)
		require.Error(t, err)
		require.True(t, errors.Is(err, ErrMalformed) || errors.Is(err, ErrDecrypt))
	}
}

// TestBadLabelHeadersOnPackets checks W40.
func TestBadLabelHeadersOnPackets(t *testing.T) {
	r := newPacketReader(newWire(&Config{Label: "blue", ProtocolVersion: 2}))
	for _, packet := range []string{"\xf4", "\xf4\x00\x08", "\xf4\x09blue", "\x08text", "\xf4\x03red\x08text"} {
		_, err := r.read([]byte(packet))
		require.Error(t, err, "%q", packet)
	}
	_, err := r.read([]byte("\xf4\x04blue\xf4\x04blue\x08text"))
	require.ErrorIs(t, err, ErrMalformed, "a second label is a message of unknown type")
}

// TestEverythingThatIsOpenedStartsWithTheLabel checks W39.
func TestEverythingThatIsOpenedStartsWithTheLabel(t *testing.T) {
	for _, cfg := range wireConfigs(t) {
		header, err := AddLabelHeaderToPacket(nil, cfg.Label)
		require.NoError(t, err)
		packet, err := newWire(cfg).sealPacket(nil, user("text"), false)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(packet, header))
		require.True(t, bytes.HasPrefix(streamOf(t, cfg, user("text")), header))
		require.Equal(t, len(header), newWire(cfg).labelOverhead())
	}
}

// A label is authenticated: moving a sealed packet under another label, or
// taking its label off, makes it unreadable (W29, W43).
func TestLabelIsAuthenticated(t *testing.T) {
	ring := testRing(t, "a")
	config := func(label string, skip bool) *Config {
		return &Config{Label: label, SkipInboundLabelCheck: skip, Keyring: ring, ProtocolVersion: 2, GossipVerifyIncoming: true, GossipVerifyOutgoing: true}
	}
	packet, err := newWire(config("blue", false)).sealPacket(nil, user("text"), false)
	require.NoError(t, err)
	stripped := packet[len("\xf4\x04blue"):]

	_, err = newPacketReader(newWire(config("", false))).read(stripped)
	require.ErrorIs(t, err, ErrDecrypt)
	_, err = newPacketReader(newWire(config("pink", true))).read(stripped)
	require.ErrorIs(t, err, ErrDecrypt)
	msgs, err := newPacketReader(newWire(config("blue", true))).read(stripped)
	require.NoError(t, err, "W42: input without a header counts as carrying the configured label")
	require.Len(t, msgs, 1)
}

func TestSealingAndReadingPacketsAllocatesNothing(t *testing.T) {
	content := sampleCompound(10)
	for _, cfg := range wireConfigs(t) {
		w := newWire(cfg)
		r := newPacketReader(w)
		dst := make([]byte, 0, 4096)
		allocs := testing.AllocsPerRun(50, func() {
			packet, err := w.sealPacket(dst, content, true)
			if err != nil {
				t.Error(err)
			}
			msgs, err := r.read(packet)
			if err != nil || len(msgs) != 10 {
				t.Error(err, len(msgs))
			}
		})
		require.Zero(t, allocs, describe(cfg))
	}
}

func TestSplittingCompoundsAllocatesNothing(t *testing.T) {
	msgs := slices.Repeat([][]byte{user("x")}, 300)
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(50, func() {
		for _, group := range splitCompounds(msgs) {
			dst = appendCompound(dst[:0], group)
		}
	}))
}

// Reading never fails other than by an error, under any configuration, and yields
// only messages that are complete, in bounded number.
func FuzzPacketRead(f *testing.F) {
	configs := wireConfigs(f)
	for i, cfg := range configs {
		packet, err := newWire(cfg).sealPacket(nil, sampleCompound(3), i%2 == 0)
		require.NoError(f, err)
		f.Add(uint8(i), packet)
	}
	for _, v := range allVectors(f, "in") {
		if v.Kind == "packet" && len(v.Hex) < 2000 {
			f.Add(uint8(0), []byte(v.Hex))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, packet []byte) {
		cfg := *configs[int(which)%len(configs)]
		cfg.GossipVerifyIncoming = which < 128
		r := newPacketReader(newWire(&cfg))
		msgs, err := r.read(packet)
		if err != nil && len(msgs) > 0 {
			t.Fatal("messages in spite of an error")
		}
		require.LessOrEqual(t, len(msgs), maxPacketParts)
		require.LessOrEqual(t, len(r.faults), maxFaults)
		require.LessOrEqual(t, len(r.unpacked), r.wire.packetBudget(len(packet)))
		require.GreaterOrEqual(t, r.budget, 0)
		for _, msg := range msgs {
			if msg.kind() != userMsg {
				_, _ = newCoded(t, msg.kind()).decode(msg.body())
			}
		}
	})
}

// What is inside a packet does not depend on the layers around it.
func FuzzPacketLayersAreTransparent(f *testing.F) {
	configs := wireConfigs(f)
	for i := range configs {
		f.Add(uint8(i), sampleCompound(3), true)
		f.Add(uint8(i), user(strings.Repeat("text", 30)), false)
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte, checksum bool) {
		cfg := configs[int(which)%len(configs)]
		w := newWire(cfg)
		packet, err := w.sealPacket(nil, content, checksum)
		require.NoError(t, err)

		plain := newPacketReader(newWire(plainConfig()))
		want, wantErr := plain.read(withChecksum(content))
		wrapped := newPacketReader(w)
		if !checksum && len(content) > 0 && messageType(content[0]) == checksumMsg {
			return // without a checksum of ours, this one is taken for it
		}
		if len(keysOf(cfg))+len(cfg.Label) == 0 && len(packet) > 0 && messageType(packet[0]) == labelMsg {
			return // without layers, this is taken for a label
		}
		got, err := wrapped.read(packet)
		require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
	})
}

func keysOf(cfg *Config) []sealingKey { return cfg.Keyring.load() }

// A compound gives back exactly the parts that were put in.
func FuzzCompound(f *testing.F) {
	f.Add([]byte("some text to be divided"), uint8(5))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var parts [][]byte
		for chunk := range slices.Chunk(text, int(size)+1) {
			parts = append(parts, user(string(chunk)))
		}
		var got []byte
		n := 0
		for _, group := range splitCompounds(parts) {
			texts, faults, err := userMessagesIn(t, appendCompound(nil, group))
			require.NoError(t, err)
			require.Empty(t, faults)
			n += len(texts)
			got = append(got, strings.Join(texts, "")...)
		}
		require.Equal(t, len(parts), n)
		require.True(t, bytes.Equal(text, got))
	})
}

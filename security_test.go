package memberlist

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// testKey is a key of the given length, different for each letter.
func testKey(letter byte, size int) []byte { return bytes.Repeat([]byte{letter}, size) }

// testRing is a ring of 16-byte keys, the first primary.
func testRing(t testing.TB, letters string) *Keyring {
	t.Helper()
	ring := new(Keyring)
	for _, letter := range []byte(letters) {
		require.NoError(t, ring.AddKey(testKey(letter, 16)))
	}
	return ring
}

// letters names the keys of a ring in order.
func letters(ring *Keyring) string {
	var s []byte
	for _, key := range ring.GetKeys() {
		s = append(s, key[0])
	}
	return string(s)
}

// TestKeySizes checks P141.
func TestKeySizes(t *testing.T) {
	for size := range 64 {
		err := ValidateKey(make([]byte, size))
		ring, ringErr := NewKeyring(nil, make([]byte, size))
		if size == 16 || size == 24 || size == 32 {
			require.NoError(t, err)
			require.NoError(t, ringErr)
			require.Len(t, ring.GetPrimaryKey(), size)
			continue
		}
		require.EqualError(t, err, "key size must be 16, 24 or 32 bytes")
		require.EqualError(t, new(Keyring).AddKey(make([]byte, size)), err.Error())
		if size > 0 {
			require.EqualError(t, ringErr, err.Error())
		}
	}
}

// TestNewKeyring checks P142.
func TestNewKeyring(t *testing.T) {
	ring, err := NewKeyring(nil, nil)
	require.NoError(t, err)
	require.Empty(t, ring.GetKeys())
	require.Nil(t, ring.GetPrimaryKey())

	_, err = NewKeyring([][]byte{testKey('a', 16)}, nil)
	require.EqualError(t, err, "empty primary key not allowed")
	_, err = NewKeyring([][]byte{testKey('a', 15)}, testKey('b', 16))
	require.EqualError(t, err, "key size must be 16, 24 or 32 bytes")

	a, b, c := testKey('a', 16), testKey('b', 24), testKey('c', 32)
	ring, err = NewKeyring([][]byte{a, b, a, c, b}, b)
	require.NoError(t, err)
	require.Equal(t, "bac", letters(ring))
	require.Equal(t, b, ring.GetPrimaryKey())
}

// TestKeyringChanges checks P143.
func TestKeyringChanges(t *testing.T) {
	ring := new(Keyring)
	require.NoError(t, ring.AddKey(testKey('a', 16)))
	require.Equal(t, testKey('a', 16), ring.GetPrimaryKey())
	require.NoError(t, ring.AddKey(testKey('b', 16)))
	require.NoError(t, ring.AddKey(testKey('c', 16)))
	require.NoError(t, ring.AddKey(testKey('a', 16)), "a known key is no error")
	require.Equal(t, "abc", letters(ring))

	require.NoError(t, ring.UseKey(testKey('c', 16)))
	require.Equal(t, "cab", letters(ring))
	require.NoError(t, ring.UseKey(testKey('c', 16)))
	require.Equal(t, "cab", letters(ring))
	require.EqualError(t, ring.UseKey(testKey('x', 16)), "requested key is not in the keyring")

	require.EqualError(t, ring.RemoveKey(testKey('c', 16)), "removing the primary key is not allowed")
	require.NoError(t, ring.RemoveKey(testKey('x', 16)))
	require.NoError(t, ring.RemoveKey(testKey('a', 16)))
	require.Equal(t, "cb", letters(ring))
}

// TestKeyringReturnsCopies checks P144.
func TestKeyringReturnsCopies(t *testing.T) {
	key := testKey('a', 16)
	ring, err := NewKeyring(nil, key)
	require.NoError(t, err)
	key[0] = 'x'
	ring.GetPrimaryKey()[0] = 'y'
	keys := ring.GetKeys()
	keys[0][0] = 'z'
	keys[0] = nil
	require.Equal(t, [][]byte{testKey('a', 16)}, ring.GetKeys())
}

// TestEmptyKeyring checks P144.
func TestEmptyKeyring(t *testing.T) {
	var ring Keyring
	require.NoError(t, ring.RemoveKey(testKey('a', 16)))
	require.Error(t, ring.UseKey(testKey('a', 16)))
	require.Empty(t, ring.GetKeys())
	var none *Keyring
	require.Empty(t, none.load())
}

// Sealing and opening go on while keys change; every box opens as long as its key
// is in the ring (P144).
func TestKeyringIsSafeForConcurrentUse(t *testing.T) {
	ring := testRing(t, "ab")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				switch i {
				case 0:
					_ = ring.AddKey(testKey(byte('c'+n%5), 16))
				case 1:
					_ = ring.RemoveKey(testKey(byte('c'+n%5), 16))
				case 2:
					_ = ring.UseKey(testKey(byte('a'+n%2), 16))
				default:
					key := ring.load()[0]
					box := makeBox(t, boxPlain, key, []byte("content"), nil)
					if letters(ring)[0] > 'b' {
						t.Error("nobody made this key primary")
					}
					_, _, err := openBox(nil, box, []sealingKey{key}, 0, nil)
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func makeBox(t testing.TB, version byte, key sealingKey, content, additional []byte) []byte {
	t.Helper()
	box, err := beginBox(nil, version, rand.Reader)
	require.NoError(t, err)
	return sealBox(append(box, content...), 0, key, additional)
}

// TestBoxesOpenAgain checks W27.
func TestBoxesOpenAgain(t *testing.T) {
	for _, version := range []byte{boxPadded, boxPlain} {
		for _, keySize := range []int{16, 24, 32} {
			key, err := newSealingKey(testKey('k', keySize))
			require.NoError(t, err)
			for size := range 50 {
				content := testKey('x', size)
				box := makeBox(t, version, key, content, []byte("label"))
				require.Equal(t, version, box[0])
				require.Len(t, box, boxLen(version, size), "version %d, %d bytes", version, size)
				require.LessOrEqual(t, len(box)-size, boxLen(version, 0))

				plain, used, err := openBox([]byte("before"), box, []sealingKey{key}, 0, []byte("label"))
				require.NoError(t, err)
				require.Zero(t, used)
				require.Equal(t, "before"+string(content), string(plain))

				inPlace, _, err := openBox(box[boxHeadLen:boxHeadLen], box, []sealingKey{key}, 0, []byte("label"))
				require.NoError(t, err)
				require.Equal(t, content, append([]byte{}, inPlace...))
			}
		}
	}
	require.Equal(t, 45, boxLen(boxPadded, 0))
	require.Equal(t, 29, boxLen(boxPlain, 0))
}

// TestVersionOfBoxes checks W28.
func TestVersionOfBoxes(t *testing.T) {
	for protocol := uint8(1); protocol <= 5; protocol++ {
		want := byte(boxPlain)
		if protocol == 1 {
			want = boxPadded
		}
		require.Equal(t, want, boxVersion(protocol))
	}
	key := testRing(t, "a").load()
	box := makeBox(t, boxPlain, key[0], []byte("content"), nil)
	box[0] = 2
	_, _, err := openBox(nil, box, key, 0, nil)
	require.ErrorIs(t, err, ErrDecrypt)
}

// TestEachBoxHasItsNonce checks W30.
func TestEachBoxHasItsNonce(t *testing.T) {
	key := testRing(t, "a").load()[0]
	seen := make(map[string]bool)
	for range 100 {
		box := makeBox(t, boxPlain, key, nil, nil)
		seen[string(box[1:boxHeadLen])] = true
	}
	require.Len(t, seen, 100)

	_, err := beginBox(nil, boxPlain, io.LimitReader(rand.Reader, nonceLen-1))
	require.Error(t, err, "half a nonce")
}

// TestAnyKeyOfTheRingOpens checks W31.
func TestAnyKeyOfTheRingOpens(t *testing.T) {
	ring := testRing(t, "abc").load()
	for i, key := range ring {
		box := makeBox(t, boxPlain, key, []byte("content"), nil)
		for hint := range 5 {
			plain, used, err := openBox(nil, box, ring, hint, nil)
			require.NoError(t, err)
			require.Equal(t, "content", string(plain))
			require.Equal(t, i, used)
		}
		others := slices.Concat(ring[:i], ring[i+1:])
		_, _, err := openBox(nil, box, others, 0, nil)
		require.ErrorIs(t, err, ErrDecrypt)
		_, _, err = openBox(nil, box, nil, 0, nil)
		require.ErrorIs(t, err, ErrDecrypt)
	}
}

// TestEveryByteIsAuthenticatedButTheVersion checks W29.
func TestEveryByteIsAuthenticatedButTheVersion(t *testing.T) {
	ring := testRing(t, "a").load()
	box := makeBox(t, boxPlain, ring[0], []byte("content"), []byte("label"))
	for i := 1; i < len(box); i++ {
		box[i] ^= 1
		_, _, err := openBox(nil, box, ring, 0, []byte("label"))
		require.ErrorIs(t, err, ErrDecrypt, "byte %d", i)
		box[i] ^= 1
	}
	_, _, err := openBox(nil, box, ring, 0, []byte("lable"))
	require.ErrorIs(t, err, ErrDecrypt)
}

// TestShortBoxesAreRefused checks W35.
func TestShortBoxesAreRefused(t *testing.T) {
	ring := testRing(t, "a").load()
	for version, least := range map[byte]int{boxPadded: 45, boxPlain: 29} {
		box := make([]byte, least)
		box[0] = version
		for size := range least {
			_, _, err := openBox(nil, box[:size], ring, 0, nil)
			require.ErrorIs(t, err, ErrDecrypt)
			if size > 0 {
				require.EqualError(t, err, fmt.Sprintf("payload is too small to decrypt: %d", size))
			}
		}
	}
}

// A padding that is not one makes the box one that does not open, whatever the
// box says its version is (W84).
func TestPaddingIsNotTrusted(t *testing.T) {
	ring := testRing(t, "a").load()
	for name, content := range map[string]string{
		"none":              "",
		"zero":              "0123456789abcde\x00",
		"more than a block": "0123456789abcde\x11",
		"a letter":          "\x00 user message, user messager",
		"not all equal":     "0123456789abc\x02\x03\x03",
	} {
		t.Run(name, func(t *testing.T) {
			box := makeBox(t, boxPlain, ring[0], []byte(content), nil)
			box[0] = boxPadded
			_, _, err := openBox(nil, box, ring, 0, nil)
			require.ErrorIs(t, err, ErrDecrypt)
		})
	}
	plain, ok := unpad([]byte("before\x03\x03\x03"), 3)
	require.True(t, ok)
	require.Equal(t, "before", string(plain))
	_, ok = unpad([]byte("before\x03\x03\x03"), 2)
	require.False(t, ok, "padding must not reach beyond the content")
	_, ok = unpad([]byte("before"), 0)
	require.False(t, ok)
}

// Whoever gives a box of version 1 the label of version 0 takes its last byte for
// padding. That has the length of a padded box one time in sixteen only (W84).
func TestRelabelledBoxHasToHaveThePaddedLength(t *testing.T) {
	ring := testRing(t, "a").load()
	for size := 1; size <= 64; size++ {
		content := append(make([]byte, size-1), 1)
		box := makeBox(t, boxPlain, ring[0], content, nil)
		box[0] = boxPadded
		plain, _, err := openBox(nil, box, ring, 0, nil)
		if size%paddingBlock == 0 {
			require.NoError(t, err)
			require.Len(t, plain, size-1, "nothing tells it apart")
			continue
		}
		require.ErrorIs(t, err, ErrDecrypt, "%d bytes", size)
	}
}

// A node that is to accept no version 0 does not, by packet and by stream, in good
// form or relabelled; without the setting it accepts both (W86).
func TestMinEncryptionVersion(t *testing.T) {
	for least, opens := range []bool{true, false} {
		for version := range uint8(2) {
			cfg := &Config{
				Keyring: testRing(t, "a"), ProtocolVersion: 2, MinEncryptionVersion: uint8(least),
				GossipVerifyIncoming: true, GossipVerifyOutgoing: true,
			}
			writer := *cfg
			writer.ProtocolVersion = 1 + version
			msg := append([]byte{byte(userMsg)}, "hello"...)
			packet, err := newWire(&writer).sealPacket(nil, msg, false)
			require.NoError(t, err)
			require.Equal(t, version, packet[0])
			_, err = newPacketReader(newWire(cfg)).read(packet)
			requireOpened(t, err, opens || version == 1)

			near, far := net.Pipe()
			go func() { _, _ = newWire(&writer).writeUserMessage(near, []byte("hello")) }()
			_, kind, err := newWire(cfg).openInbound(far)
			requireOpened(t, err, opens || version == 1)
			require.Equal(t, err == nil, kind == userMsg)
			require.Equal(t, err != nil, answersWithError(err), "the writer is told")
			require.NoError(t, near.Close())
		}
	}
}

func requireOpened(t *testing.T, err error, opened bool) {
	t.Helper()
	if opened {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, ErrDecrypt)
	require.ErrorContains(t, err, "encryption version 0 is refused")
}

func TestSealingAndOpeningBoxesAllocatesNothing(t *testing.T) {
	keys := testRing(t, "abc").load()
	buf := make([]byte, 0, 2000)
	plain := make([]byte, 0, 2000)
	content := make([]byte, 1400)
	label := []byte("label")
	require.Zero(t, testing.AllocsPerRun(50, func() {
		box, _ := beginBox(buf, boxPadded, rand.Reader)
		box = sealBox(append(box, content...), 0, keys[2], label)
		if _, _, err := openBox(plain, box, keys, 0, label); err != nil {
			t.Error(err)
		}
	}))
}

// Nothing that anybody sends opens, except what was sealed. The version byte is not
// authenticated (W84), so relabelling a box can add or remove valid padding, and
// nothing else.
func FuzzOpenBox(f *testing.F) {
	keys := testRing(f, "ab").load()
	good := makeBox(f, boxPlain, keys[1], []byte("a user message"), []byte("label"))
	padded := makeBox(f, boxPadded, keys[0], []byte("a user message"), []byte("label"))
	f.Add(good, []byte("label"), []byte("content"))
	f.Add(padded, []byte("label"), []byte("content\x02\x02"))
	f.Add(good[:20], []byte{}, []byte("0123456789abcdef\x10"))
	f.Fuzz(func(t *testing.T, box, additional, content []byte) {
		if plain, _, err := openBox(nil, bytes.Clone(box), keys, 1, additional); err == nil {
			if box[0] == boxPlain {
				plain = bytes.TrimSuffix(plain, []byte("\x02\x02"))
			}
			require.Equal(t, "a user message", string(plain))
		} else {
			require.ErrorIs(t, err, ErrDecrypt)
		}

		sealed := makeBox(t, boxPlain, keys[0], content, additional)
		sealed[0] = boxPadded
		if plain, _, err := openBox(nil, sealed, keys, 0, additional); err == nil {
			padding := content[len(plain):]
			require.True(t, bytes.HasPrefix(content, plain))
			require.Equal(t, bytes.Repeat([]byte{byte(len(padding))}, len(padding)), padding)
		}
	})
}

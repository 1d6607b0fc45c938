package memberlist

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// naiveCompound reads a compound as W18 says: the parts that are whole and of a type
// that is a message (W5), and how many are not. nested tells that one of those is a
// compound or compressed. ok is false if the compound is refused.
func naiveCompound(body []byte) (parts [][]byte, bad int, nested, ok bool) {
	if len(body) == 0 || len(body) < 1+2*int(body[0]) {
		return nil, 0, false, false
	}
	n := int(body[0])
	rest := body[1+2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(body[1+2*i:]))
		if size > len(rest) {
			return parts, bad + 1, nested, true // the rest is cut off, in one report
		}
		part := rest[:size]
		rest = rest[size:]
		switch {
		case len(part) > 0 && (part[0] <= 5 || part[0] == 8 || part[0] == 11): // W5
			parts = append(parts, part)
		default:
			nested = nested || len(part) > 0 && (part[0] == 7 || part[0] == 9)
			bad++
		}
	}
	return parts, bad, nested, true
}

// Any bytes behind the type of a compound are read as the naive reader does it.
// Compounds and compressed messages inside are left to FuzzPacketRead.
func FuzzCompoundAgreesWithNaiveReader(f *testing.F) {
	f.Add(appendCompound(nil, [][]byte{user("one"), user(""), user("three")})[1:])
	f.Add([]byte("\x02\x00\x01\x00\x03\x08ab"))
	f.Add([]byte("\x02\x00\x00\x00\x01\x08"))
	f.Add([]byte("\x02\x00\x01"))
	f.Add([]byte("\x03\x00\x01\x00\x01\x00\x01\x0c\x06\x0brest"))
	f.Add([]byte("\x00"))
	f.Add([]byte{})
	r := newPacketReader(newWire(plainConfig()))
	f.Fuzz(func(t *testing.T, body []byte) {
		want, bad, nested, ok := naiveCompound(body)
		if nested {
			return
		}
		got, err := r.read(append([]byte{byte(compoundMsg)}, body...))
		if !ok {
			require.Error(t, err)
			require.Empty(t, got)
			return
		}
		require.NoError(t, err)
		require.Len(t, r.faults, min(bad, maxFaults))
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i], []byte(got[i]))
		}
	})
}

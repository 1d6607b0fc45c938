package memberlist

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// appendLonger appends msg in compressed form, no matter whether that is shorter.
func appendLonger(dst, msg []byte) []byte {
	packed, _ := appendCompressed(dst, msg, 2*len(msg)+16)
	return packed
}

// compressedWith makes a compressed message of data that need not be valid.
func compressedWith(algo uint8, data []byte) []byte {
	m := compressed{Algo: algo, Buf: data}
	return m.appendTo(nil)
}

// TestCompressedMessage checks W19.
func TestCompressedMessage(t *testing.T) {
	for name, msg := range lzwSamples() {
		t.Run(name, func(t *testing.T) {
			want := compressedWith(algorithmLZW, standardLZW(t, msg))
			got := appendLonger([]byte("before"), msg)
			require.True(t, bytes.Equal(append([]byte("before"), want...), got))
		})
	}
}

// TestPacketsAreCompressedOnlyIfThatIsStrictlyShorter checks W20.
func TestPacketsAreCompressedOnlyIfThatIsStrictlyShorter(t *testing.T) {
	samples := lzwSamples()
	for size := range 80 {
		for name, msg := range map[string][]byte{
			"run":      bytes.Repeat([]byte{'x'}, size),
			"few":      samples["few"][:size],
			"random":   samples["random"][:size],
			"messages": sampleCompound(2)[:size],
		} {
			want := compressedWith(algorithmLZW, standardLZW(t, msg))
			got, ok := appendShorter([]byte("before"), msg)
			require.Equal(t, len(want) < len(msg), ok, "%s of %d", name, size)
			if !ok {
				want = nil
			}
			require.Equal(t, "before"+string(want), string(got))
		}
	}
}

// The message whose compressed form is exactly as long, and its neighbours (W20).
func TestEqualLengthIsNotShorter(t *testing.T) {
	run := bytes.Repeat([]byte{'x'}, leastCompressible)
	_, ok := appendShorter(nil, run)
	require.True(t, ok, "leastCompressible is too high")
	_, ok = appendShorter(nil, run[:leastCompressible-1])
	require.False(t, ok)
	require.Len(t, appendLonger(nil, run[:leastCompressible-1]), leastCompressible-1, "leastCompressible is too low")
}

// TestBadCompression checks W23.
func TestBadCompression(t *testing.T) {
	valid := standardLZW(t, []byte("content"))
	for name, tc := range map[string]struct {
		m    compressed
		text string
		kind error
	}{
		"unknown algorithm": {compressed{Algo: 1, Buf: valid}, "cannot decompress unknown algorithm 1", ErrMalformed},
		"no data":           {compressed{}, "lzw: data without end code", ErrMalformed},
		"cut short":         {compressed{Buf: valid[:3]}, "lzw: data without end code", ErrMalformed},
		"corrupt":           {compressed{Buf: []byte{0xff, 0xff, 0xff}}, "lzw: invalid code", ErrMalformed},
		"nothing":           {compressed{Buf: standardLZW(t, nil)}, "decompressed message is empty", ErrMalformed},
		"too much":          {compressed{Buf: standardLZW(t, make([]byte, 101))}, "decompressed message is larger than limit (100)", ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.m.expand([]byte("before"), 100)
			require.EqualError(t, err, tc.text)
			require.ErrorIs(t, err, tc.kind)
			require.Equal(t, "before", string(got[:6]), "what stood there is untouched")
		})
	}
}

func FuzzDecompress(f *testing.F) {
	for _, msg := range lzwSamples() {
		f.Add(compressedWith(algorithmLZW, standardLZW(f, msg[:min(len(msg), 2000)]))[1:])
	}
	f.Add(compressedWith(1, nil)[1:])
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 1 << 14
		var m compressed
		if _, err := m.decode(body); err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		got, err := m.expand(nil, most)
		want, wantErr := standardUnLZW(m.Buf, most)
		if err != nil {
			require.True(t, wantErr != nil || m.Algo != algorithmLZW || len(want) == 0)
			return
		}
		require.NoError(t, wantErr)
		require.True(t, bytes.Equal(want, got))
		require.NotEmpty(t, got)

		packed, ok := appendShorter(nil, got)
		again := compressedWith(algorithmLZW, standardLZW(t, got))
		require.Equal(t, len(again) < len(got), ok)
		if ok {
			require.True(t, bytes.Equal(again, packed))
		}
	})
}

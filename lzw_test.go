package memberlist

import (
	"bytes"
	"compress/lzw"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// standardLZW compresses with the coder of the standard library.
func standardLZW(t testing.TB, src []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lzw.NewWriter(&out, lzw.LSB, 8)
	_, err := w.Write(src)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// standardUnLZW expands with the reader of the standard library, to at most
// most bytes.
func standardUnLZW(src []byte, most int) ([]byte, error) {
	r := lzw.NewReader(bytes.NewReader(src), lzw.LSB, 8)
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err == nil && len(out) > most {
		err = errLZWLimit
	}
	return out, err
}

// lzwSamples are inputs of every character: none, short, long runs, random,
// enough different strings to fill the code table several times, and real
// messages.
func lzwSamples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 50_000)
	few := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	for i := range few {
		few[i] = "abcd"[rng.IntN(4)]
	}
	samples := map[string][]byte{
		"nothing":  {},
		"one byte": {0},
		"run":      bytes.Repeat([]byte{'x'}, 100_000),
		"random":   random,
		"few":      few,
		"messages": sampleCompound(40),
	}
	for _, n := range []int{2, 3, 255, 256, 257, 3838, 3839, 3840, 3841, 4096, 8192} {
		samples[fmt.Sprintf("random %d", n)] = random[:n]
		samples[fmt.Sprintf("run %d", n)] = samples["run"][:n]
	}
	return samples
}

// sampleCompound is a compound of n alive messages as a young cluster gossips
// them.
func sampleCompound(n int) []byte {
	dst := []byte{byte(compoundMsg), byte(n)}
	var parts []byte
	for i := range n {
		m := alive{
			Incarnation: uint32(i),
			Node:        borrow(fmt.Sprintf("node-%04d", i)),
			Addr:        []byte{10, 0, byte(i >> 8), byte(i)},
			Port:        7946,
			Vsn:         []byte{1, 5, 2, 0, 0, 0},
		}
		before := len(parts)
		parts = m.appendTo(parts)
		size := len(parts) - before
		dst = append(dst, byte(size>>8), byte(size))
	}
	return append(dst, parts...)
}

// TestLZWWritesWhatTheStandardLibraryWrites checks W19.
func TestLZWWritesWhatTheStandardLibraryWrites(t *testing.T) {
	for name, src := range lzwSamples() {
		t.Run(name, func(t *testing.T) {
			want := standardLZW(t, src)
			got, ok := appendLZW([]byte("before"), src, len(want))
			require.True(t, ok)
			require.True(t, bytes.Equal(append([]byte("before"), want...), got))

			back, err := expandLZW([]byte("before"), want, len(src))
			require.NoError(t, err)
			require.True(t, bytes.Equal(append([]byte("before"), src...), back))
		})
	}
}

// TestLZWGivesUpWhenTheResultIsTooLong checks W20.
func TestLZWGivesUpWhenTheResultIsTooLong(t *testing.T) {
	for name, src := range lzwSamples() {
		t.Run(name, func(t *testing.T) {
			dst := []byte("before")
			got, ok := appendLZW(dst, src, len(standardLZW(t, src))-1)
			require.False(t, ok)
			require.Equal(t, "before", string(got))
		})
	}
}

// What cannot get shorter is not looked at to its end (W20).
func TestLZWGivesUpEarly(t *testing.T) {
	random := lzwSamples()["random"]
	codes, rest := newLZWEncoder().match(random, 100)
	require.Len(t, codes, 100)
	require.Greater(t, len(rest), len(random)-300)
}

// TestLZWStopsAtTheLimit checks W63.
func TestLZWStopsAtTheLimit(t *testing.T) {
	src := standardLZW(t, bytes.Repeat([]byte{'x'}, 100_000))
	out, err := expandLZW(nil, src, 99_999)
	require.ErrorIs(t, err, errLZWLimit)
	require.LessOrEqual(t, cap(out), 200_000)
	_, err = expandLZW(nil, src, 100_000)
	require.NoError(t, err)
}

// TestLZWRefusesDataWithoutEndCode checks W23.
func TestLZWRefusesDataWithoutEndCode(t *testing.T) {
	src := standardLZW(t, sampleCompound(3))
	for n := range len(src) {
		_, err := expandLZW(nil, src[:n], 1<<20)
		require.ErrorIs(t, err, errLZWEnd, "%d bytes", n)
	}
	_, err := expandLZW(nil, append(src, 1, 2, 3), 1<<20)
	require.NoError(t, err, "bytes after the end code are ignored")
}

// TestLZWRefusesCodesThatAreNotInTheTable checks W23.
func TestLZWRefusesCodesThatAreNotInTheTable(t *testing.T) {
	_, err := expandLZW(nil, []byte{0xff, 0xff, 0xff}, 1<<20)
	require.ErrorIs(t, err, errLZWCode)
}

// A writer that never clears the table is allowed: the table stays as it is when
// it is full, and codes keep 12 bits (W19).
func TestLZWReadsOnWithAFullTable(t *testing.T) {
	src := codesWithoutClear(20_000)
	want, err := standardUnLZW(src, 1<<24)
	require.NoError(t, err)
	got, err := expandLZW(nil, src, 1<<24)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// codesWithoutClear writes n random valid codes and the end code.
func codesWithoutClear(n int) []byte {
	rng := rand.New(rand.NewPCG(3, 4))
	var out []byte
	var bits uint64
	var have, width uint = 0, 9
	put := func(code uint32) {
		bits |= uint64(code) << have
		for have += width; have >= 8; have -= 8 {
			out = append(out, byte(bits))
			bits >>= 8
		}
	}
	last := uint32(lzwEnd)
	for range n {
		code := rng.Uint32N(last + 1)
		if code == lzwClear || code == lzwEnd {
			code = last % 256
		}
		put(code)
		if last < lzwCodes-1 {
			last++
			if last == 1<<width {
				width++
			}
		}
	}
	put(lzwEnd)
	return append(out, byte(bits))
}

// lzwOfRun is the compressed form of a byte repeated n times, made without looking
// at each of them.
func lzwOfRun(b byte, n int) []byte {
	w := lzwWriter{width: lzwMinWidth}
	w.put(lzwClear)
	for n > 0 {
		var codes []uint16
		for size := 1; n > 0 && len(codes) < lzwFull; size++ {
			size = min(size, n)
			n -= size
			if size == 1 {
				codes = append(codes, uint16(b))
			} else {
				codes = append(codes, uint16(lzwEnd+size-1))
			}
		}
		w.putAll(codes)
	}
	w.put(lzwEnd)
	w.finish()
	return w.out
}

func TestLZWOfRun(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 1000, 10_000_000 / 8} {
		require.True(t, bytes.Equal(standardLZW(t, bytes.Repeat([]byte{'x'}, n)), lzwOfRun('x', n)), "%d", n)
	}
}

func TestLZWAllocatesNothing(t *testing.T) {
	src := sampleCompound(20)
	packed := standardLZW(t, src)
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		dst, _ = appendLZW(dst[:0], src, len(src))
		dst, _ = expandLZW(dst[:0], packed, len(src))
	}))
}

func FuzzLZWCompress(f *testing.F) {
	for _, src := range lzwSamples() {
		f.Add(src[:min(len(src), 3000)], uint16(len(src)))
	}
	f.Fuzz(func(t *testing.T, src []byte, most uint16) {
		want := standardLZW(t, src)
		got, ok := appendLZW(nil, src, int(most))
		require.Equal(t, len(want) <= int(most), ok)
		if ok && !bytes.Equal(want, got) {
			t.Fatalf("wrote %.200x, want %.200x", got, want)
		}
		back, err := expandLZW(nil, want, len(src))
		require.NoError(t, err)
		if !bytes.Equal(src, back) {
			t.Fatalf("read back %.200x, want %.200x", back, src)
		}
	})
}

func FuzzLZWExpand(f *testing.F) {
	for _, src := range lzwSamples() {
		f.Add(standardLZW(f, src[:min(len(src), 3000)]))
	}
	f.Add(codesWithoutClear(3000))
	f.Add(codesWithoutClear(8000))
	const most = 1 << 16
	f.Fuzz(func(t *testing.T, src []byte) {
		want, wantErr := standardUnLZW(src, most)
		got, err := expandLZW(nil, src, most)
		require.ErrorIs(t, err, lzwErrorLike(wantErr))
		require.LessOrEqual(t, cap(got), 2*most+lzwCodes)
		if err != nil {
			return
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("read %.200x, want %.200x", got, want)
		}
		_, err = expandLZW(nil, src, len(got))
		require.NoError(t, err, "the limit is inclusive (W63)")
		if len(got) > 0 {
			_, err = expandLZW(nil, src, len(got)-1)
			require.ErrorIs(t, err, errLZWLimit)
		}
	})
}

// lzwErrorLike is our error for one of standardUnLZW.
func lzwErrorLike(err error) error {
	switch {
	case err == nil, errors.Is(err, errLZWLimit):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errLZWEnd
	}
	return errLZWCode
}

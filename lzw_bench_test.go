package memberlist

import (
	"bytes"
	"compress/lzw"
	"testing"
)

func BenchmarkLZW(b *testing.B) {
	for name, n := range map[string]int{"ping": 1, "packet": 22, "stream": 255} {
		src := sampleCompound(n)
		if n == 255 {
			src = bytes.Repeat(src, 40)
		}
		packed := standardLZW(b, src)
		dst := make([]byte, 0, 2*len(src)+100)
		b.Run(name+"/compress", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				appendLZW(dst, src, len(src))
			}
		})
		b.Run(name+"/expand", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				_, _ = expandLZW(dst, packed, len(src))
			}
		})
		b.Run(name+"/compress-std", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			var o bytes.Buffer
			w := lzw.NewWriter(&o, lzw.LSB, 8).(*lzw.Writer)
			for b.Loop() {
				o.Reset()
				w.Reset(&o, lzw.LSB, 8)
				w.Write(src)
				w.Close()
			}
		})
	}
}

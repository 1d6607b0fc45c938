package wire

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// The first packet of a fresh node, as nodes really send it: its own alive
// message rides on a ping.
func TestPingAndAliveAreWhatNodesSend(t *testing.T) {
	const sent = "07020045003e0085a44e6f6465a66e6f64652d62a55365714e6f01aa536f7572636541646472a40a000001aa536f7572" +
		"63654e6f6465a66e6f64652d61aa536f75726365506f7274cd1f0a0486a441646472a40a000001ab496e6361726e6174696f6e01" +
		"a44d657461a0a44e6f6465a66e6f64652d61a4506f7274cd1f0aa356736ea6010502000000"
	a := Member{Name: "node-a", Addr: []byte{10, 0, 0, 1}, Port: 7946, Meta: []byte{}, Incarnation: 1}
	got := Compound([][]byte{Ping(1, "node-b", a), Alive(a)})
	require.Equal(t, sent, hex.EncodeToString(got))

	seq, err := SeqNo(got)
	require.NoError(t, err)
	require.EqualValues(t, 1, seq)
	_, err = SeqNo(Ack(5))
	require.Error(t, err)
}

func TestFillLosesNothing(t *testing.T) {
	msgs := make([][]byte, 1000)
	for i := range msgs {
		msgs[i] = make([]byte, 10+i%90)
	}
	packets, perPacket := Fill(msgs, 1400)
	total := 0
	for i, p := range packets {
		require.LessOrEqual(t, len(p), 1400)
		total += perPacket[i]
	}
	require.Equal(t, len(msgs), total)
}

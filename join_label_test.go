package memberlist

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// W41: a stream with another label is closed without an answer, so this is all that
// a joiner gets to see. It can be told from other failures by errors.Is.
func TestJoinerCanTellThatTheLabelsDiffer(t *testing.T) {
	for name, labels := range map[string][2]string{
		"another label":  {"blue", "red"},
		"none where one": {"blue", ""},
		"one where none": {"", "red"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newMesh(t)
				seed := c.node("seed", func(cfg *Config) { cfg.Label = labels[0] })
				joiner := c.node("joiner", func(cfg *Config) { cfg.Label = labels[1] })
				_, err := joiner.Join([]string{seed.LocalNode().Address()})
				require.ErrorIs(t, err, ErrLabelMismatch)
				require.ErrorIs(t, err, io.EOF)
				require.ErrorContains(t, err, "the labels differ")
			})
		})
	}
}

// Who closes a TCP connection with input that is not read resets it (W41).
func TestJoinerWithALargeStateCanTellThatTheLabelsDiffer(t *testing.T) {
	seed := loopback("seed")
	seed.Label = "blue"
	joiner := loopback("joiner")
	joiner.Label = "red"
	joiner.EnableCompression = false
	state := make([]byte, 8<<20)
	joiner.Delegate = &hooks{local: func(bool) []byte { return state }}

	address := createOnLoopback(t, seed).LocalNode().Address()
	_, err := createOnLoopback(t, joiner).Join([]string{address})
	require.ErrorIs(t, err, ErrLabelMismatch)
}

// An answer that does not come in time, or nobody who listens, says nothing of labels.
func TestJoinErrorsThatSayNothingOfLabels(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, err = createOnLoopback(t, loopback("joiner")).Join([]string{address})
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrLabelMismatch)

	inBubble(t, func(t *testing.T) {
		c := newMesh(t)
		joiner := c.node("joiner")
		silent := c.network.NewTransport("silent")
		go func() { <-silent.StreamCh() }()
		_, err := joiner.Join([]string{silent.addr.String()})
		require.ErrorIs(t, err, ErrTimeout)
		require.NotErrorIs(t, err, ErrLabelMismatch)
	})
}

// Who refuses a stream does not read the rest of it. What it said of the reason
// reaches the joiner all the same (W48, W89).
func TestRefusalReachesAJoinerWithALargeState(t *testing.T) {
	key := []byte("sixteen bytes ok")
	for name, test := range map[string]struct {
		seed, joiner []byte
		want         error
	}{
		"joiner has no keys": {key, nil, ErrEncrypted},
		"seed has no keys":   {nil, key, ErrNotEncrypted},
	} {
		t.Run(name, func(t *testing.T) {
			seed := loopback("seed")
			seed.SecretKey = test.seed
			joiner := loopback("joiner")
			seed.TCPTimeout, joiner.TCPTimeout = waitLimit, waitLimit // a busy machine is slow to seal it
			joiner.SecretKey = test.joiner
			joiner.EnableCompression = false
			state := make([]byte, 8<<20)
			joiner.Delegate = &hooks{local: func(bool) []byte { return state }}

			address := createOnLoopback(t, seed).LocalNode().Address()
			_, err := createOnLoopback(t, joiner).Join([]string{address})
			require.ErrorIs(t, err, test.want)
			require.NotErrorIs(t, err, ErrLabelMismatch)
		})
	}
}

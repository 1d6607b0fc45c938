package memberlist

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vectorFiles holds bytes that memberlist v0.7.0 really sent, and inputs with what
// it did on receiving them; its README says what is in which file.
const vectorFiles = "testdata/vectors"

// vector is one recorded case.
type vector struct {
	Name      string       `json:"name"`
	Kind      string       `json:"kind"`      // "packet" or "stream"
	Direction string       `json:"direction"` // "out", "in" or "in-reply"
	Config    vectorConfig `json:"config"`
	Note      string       `json:"note"`
	Given     []hexBytes   `json:"given"`
	From      string       `json:"from"`
	Hex       hexBytes     `json:"hex"`
	Reference string       `json:"reference"` // "crashes": the expectation is ours
	Expect    vectorExpect `json:"expect"`
}

// vectorConfig describes the node that sent or received.
type vectorConfig struct {
	Name                    string     `json:"name"`
	AdvertiseIP             hexBytes   `json:"advertise_ip"`
	AdvertisePort           int        `json:"advertise_port"`
	BindPort                int        `json:"bind_port"`
	Label                   string     `json:"label"`
	Keys                    []hexBytes `json:"keys"`
	Key                     hexBytes   `json:"key"`
	ProtocolVersion         uint8      `json:"protocol_version"`
	Compress                bool       `json:"compress"`
	SkipInboundLabelCheck   bool       `json:"skip_inbound_label_check"`
	VerifyIncomingOff       bool       `json:"gossip_verify_incoming_off"`
	VerifyOutgoingOff       bool       `json:"gossip_verify_outgoing_off"`
	RequireNodeNames        bool       `json:"require_node_names"`
	AckPayload              *hexBytes  `json:"ack_payload"`
	LocalState              *hexBytes  `json:"local_state"`
	Meta                    hexBytes   `json:"meta"`
	DelegateProtocolVersion uint8      `json:"delegate_protocol_version"`
	DelegateProtocolMin     uint8      `json:"delegate_protocol_min"`
	DelegateProtocolMax     uint8      `json:"delegate_protocol_max"`
	CIDRsAllowed            []string   `json:"cidrs_allowed"`
}

// wireConfig is as much of a Config as decides about bytes.
func (c *vectorConfig) wireConfig(t testing.TB) *Config {
	t.Helper()
	keys := make([][]byte, len(c.Keys))
	for i, key := range c.Keys {
		keys[i] = key
	}
	ring, err := NewKeyring(keys, c.Key)
	require.NoError(t, err)
	return &Config{
		Name:                  c.Name,
		Label:                 c.Label,
		SkipInboundLabelCheck: c.SkipInboundLabelCheck,
		ProtocolVersion:       c.ProtocolVersion,
		EnableCompression:     c.Compress,
		Keyring:               ring,
		GossipVerifyIncoming:  !c.VerifyIncomingOff,
		GossipVerifyOutgoing:  !c.VerifyOutgoingOff,
		UDPBufferSize:         1400,
	}
}

// vectorExpect is what was observed; which fields are there depends on the
// direction.
type vectorExpect struct {
	// direction "out"
	Label           *string           `json:"label"`
	Encryption      *vectorEncryption `json:"encryption"`
	CRC32           *string           `json:"crc32"`
	Compressed      bool              `json:"compressed"`
	Payload         hexBytes          `json:"payload"`
	CompoundLengths []int             `json:"compound_lengths"`
	Messages        []vectorMessage   `json:"messages"`

	// directions "in" and "in-reply"
	Outcome   string        `json:"outcome"`
	Replies   []vectorReply `json:"replies"`
	LogLevels []string      `json:"log_levels"`
}

type vectorEncryption struct {
	Version byte     `json:"version"`
	Nonce   hexBytes `json:"nonce"`
	AAD     hexBytes `json:"aad"`
}

type vectorReply struct {
	To       string          `json:"to"`
	ToName   string          `json:"to_name"`
	Messages []vectorMessage `json:"messages"`
}

type vectorMessage struct {
	Type      string         `json:"type"`
	Code      messageType    `json:"code"`
	Fields    vectorFields   `json:"fields"`
	UserMsg   hexBytes       `json:"user_msg"`
	Header    vectorFields   `json:"header"`
	Nodes     []vectorFields `json:"nodes"`
	UserState hexBytes       `json:"user_state"`
}

// vectorFields are the fields of a message by their names on the wire.
type vectorFields map[string]any

func (f vectorFields) number(name string) uint32 {
	n, _ := f[name].(float64)
	return uint32(n)
}

func (f vectorFields) text(name string) string {
	s, _ := f[name].(string)
	return s
}

// bytes returns nil for a field that is null or absent.
func (f vectorFields) bytes(t testing.TB, name string) []byte {
	t.Helper()
	s, ok := f[name].(string)
	if !ok {
		return nil
	}
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// hexBytes is written in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// readVectors reads one of the files, by its name without extensions.
func readVectors(t testing.TB, name string) []vector {
	t.Helper()
	path := filepath.Join(vectorFiles, name+".json")
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		content = readCompressedFile(t, path+".gz")
	} else {
		require.NoError(t, err)
	}
	var vectors []vector
	require.NoError(t, json.Unmarshal(content, &vectors))
	require.NotEmpty(t, vectors)
	return vectors
}

func readCompressedFile(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	require.NoError(t, err)
	r, err := gzip.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	return content
}

// allVectors reads all files and returns what has the direction.
func allVectors(t testing.TB, direction string) []vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectorFiles, "*.json*"))
	require.NoError(t, err)
	var found []vector
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		for _, v := range readVectors(t, name) {
			if v.Direction == direction {
				found = append(found, v)
			}
		}
	}
	require.NotEmpty(t, found)
	return found
}

package memberlist

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

var (
	errKeySize          = errors.New("key size must be 16, 24 or 32 bytes")
	errNoPrimaryKey     = errors.New("empty primary key not allowed")
	errUnknownKey       = errors.New("requested key is not in the keyring")
	errRemovePrimaryKey = errors.New("removing the primary key is not allowed")
)

// Keyring holds the keys of a cluster. The primary key, which is the first one,
// seals messages; every key opens them. To rotate the key of a running cluster, add
// the new key on all nodes, then make it primary on all nodes, then remove the old
// key.
//
// A change applies to the next packet and the next stream. The zero value is an
// empty ring, with which nothing is encrypted. A Keyring is safe for concurrent use
// and must not be copied.
type Keyring struct {
	change sync.Mutex // held while keys is replaced

	// keys is replaced as a whole and never written to, so that readers, one for
	// each packet, need no lock.
	keys atomic.Pointer[[]sealingKey]
}

// sealingKey is a key and the cipher made of it, once and for all: setting one up
// costs more than sealing a small packet.
type sealingKey struct {
	key  []byte
	aead cipher.AEAD
}

// NewKeyring returns a ring with the primary key and the others, in order and
// without duplicates. Keys of 16, 24 or 32 bytes select AES-128, AES-192 or AES-256.
// Without any key the ring is empty. Other keys without a primary key are an error.
func NewKeyring(keys [][]byte, primaryKey []byte) (*Keyring, error) {
	ring := new(Keyring)
	if len(primaryKey) == 0 { // P142
		if len(keys) > 0 {
			return nil, errNoPrimaryKey
		}
		return ring, nil
	}
	if err := ring.AddKey(primaryKey); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// ValidateKey returns an error unless the key has 16, 24 or 32 bytes.
func ValidateKey(key []byte) error {
	switch len(key) { // P141
	case 16, 24, 32:
		return nil
	}
	return errKeySize
}

// AddKey adds a key that opens messages. The first key of an empty ring becomes the
// primary key. Adding a key that is in the ring does nothing.
func (k *Keyring) AddKey(key []byte) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	k.change.Lock()
	defer k.change.Unlock()
	keys := k.load()
	if indexOfKey(keys, key) >= 0 { // P143
		return nil
	}
	added, err := newSealingKey(key)
	if err != nil {
		return err
	}
	k.store(append(slices.Clone(keys), added))
	return nil
}

// UseKey makes a key of the ring the primary key. The others keep their order. A key
// that is not in the ring is an error.
func (k *Keyring) UseKey(key []byte) error {
	k.change.Lock()
	defer k.change.Unlock()
	keys := slices.Clone(k.load())
	at := indexOfKey(keys, key)
	if at < 0 {
		return errUnknownKey
	}
	used := keys[at]
	k.store(slices.Insert(slices.Delete(keys, at, at+1), 0, used))
	return nil
}

// RemoveKey removes a key from the ring. Removing the primary key is an error.
// Removing a key that is not in the ring does nothing.
func (k *Keyring) RemoveKey(key []byte) error {
	k.change.Lock()
	defer k.change.Unlock()
	keys := slices.Clone(k.load())
	switch at := indexOfKey(keys, key); at {
	case -1:
		return nil
	case 0:
		return errRemovePrimaryKey
	default:
		k.store(slices.Delete(keys, at, at+1))
		return nil
	}
}

// GetKeys returns copies of all keys, the primary one first.
func (k *Keyring) GetKeys() [][]byte {
	keys := k.load()
	copies := make([][]byte, len(keys))
	for i := range keys {
		copies[i] = bytes.Clone(keys[i].key)
	}
	return copies
}

// GetPrimaryKey returns a copy of the primary key, or nil if the ring is empty.
func (k *Keyring) GetPrimaryKey() []byte {
	keys := k.load()
	if len(keys) == 0 {
		return nil
	}
	return bytes.Clone(keys[0].key)
}

// load returns the keys as they are now; they are not to be written to (P144). A nil
// ring has none.
func (k *Keyring) load() []sealingKey {
	if k == nil {
		return nil
	}
	if keys := k.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

func (k *Keyring) store(keys []sealingKey) { k.keys.Store(&keys) }

func newSealingKey(key []byte) (sealingKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealingKey{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealingKey{}, err
	}
	return sealingKey{key: bytes.Clone(key), aead: aead}, nil
}

func indexOfKey(keys []sealingKey, key []byte) int {
	return slices.IndexFunc(keys, func(k sealingKey) bool { return bytes.Equal(k.key, key) })
}

// A box (W27) is
//
//	version (1 byte) | nonce (12) | ciphertext | tag (16)
//
// The plain text of version 0 is padded to a multiple of 16 bytes.
const (
	boxPadded    = 0 // version of boxes with padding
	boxPlain     = 1 // version of boxes without
	nonceLen     = 12
	tagLen       = 16
	boxHeadLen   = 1 + nonceLen
	boxOverhead  = boxHeadLen + tagLen
	paddingBlock = 16
)

// boxVersion is the version of box that a node writes which speaks the protocol
// version (W28).
func boxVersion(protocol uint8) byte {
	if protocol == 1 {
		return boxPadded
	}
	return boxPlain
}

// boxLen is the length of a box around n bytes (W27, W36).
func boxLen(version byte, n int) int {
	if version == boxPadded {
		n += paddingBlock - n%paddingBlock
	}
	return boxOverhead + n
}

// beginBox appends the head of a box, with a nonce from random (W30). What is
// appended then is the plain text, and sealBox makes the rest.
func beginBox(dst []byte, version byte, random io.Reader) ([]byte, error) {
	dst = append(dst, version)
	dst = append(dst, make([]byte, nonceLen)...)
	_, err := io.ReadFull(random, dst[len(dst)-nonceLen:])
	return dst, err
}

// sealBox seals the box that begins at start, in place. The additional data is
// authenticated with it (W29).
func sealBox(dst []byte, start int, key sealingKey, additional []byte) []byte {
	nonce := dst[start+1 : start+boxHeadLen]
	if dst[start] == boxPadded {
		padding := paddingBlock - (len(dst)-start-boxHeadLen)%paddingBlock
		for range padding {
			dst = append(dst, byte(padding))
		}
	}
	text := start + boxHeadLen
	return key.aead.Seal(dst[:text], nonce, dst[text:], additional)
}

// openBox appends the content of a box to dst, which must not overlap it unless
// dst ends where the ciphertext begins and there is one key only. It tries the
// keys in ring order (W31), but the one at index hint first, since what comes in
// is usually sealed with the key of last time: the result is the same, a box opens
// with one key at most. It returns the index of the key that fits.
func openBox(dst, box []byte, keys []sealingKey, hint int, additional []byte) (plain []byte, used int, err error) {
	if err := checkBox(box); err != nil {
		return nil, 0, err
	}
	if hint < len(keys) {
		if plain, ok := keys[hint].open(dst, box, additional); ok {
			return plain, hint, nil
		}
	}
	for i := range keys {
		if i == hint {
			continue
		}
		if plain, ok := keys[i].open(dst, box, additional); ok {
			return plain, i, nil
		}
	}
	return nil, 0, ErrDecrypt
}

// openBox is openBox for the versions that the configuration accepts (W86).
func (w *wire) openBox(dst, box []byte, keys []sealingKey, hint int, additional []byte) (plain []byte, used int, err error) {
	if least := w.cfg.MinEncryptionVersion; len(box) > 0 && box[0] < least {
		return nil, 0, newKindError(ErrDecrypt, "encryption version %d is refused, %d is the lowest accepted", box[0], least)
	}
	return openBox(dst, box, keys, hint, additional)
}

// checkBox refuses what cannot be a box (W28, W35). A box of version 1 that somebody
// has given the label of version 0 would lose what looks like padding (W84): of its
// lengths one in sixteen remains.
func checkBox(box []byte) error {
	if len(box) == 0 {
		return newKindError(ErrDecrypt, "cannot decrypt an empty message")
	}
	if box[0] > boxPlain {
		return newKindError(ErrDecrypt, "unsupported encryption version %d", box[0])
	}
	least := boxOverhead
	if box[0] == boxPadded {
		least += paddingBlock
	}
	if len(box) < least {
		return newKindError(ErrDecrypt, "payload is too small to decrypt: %d", len(box))
	}
	if box[0] == boxPadded && (len(box)-boxOverhead)%paddingBlock != 0 {
		return newKindError(ErrDecrypt, "payload of %d bytes is not padded as encryption version %d is", len(box), boxPadded)
	}
	return nil
}

// open appends the content of a box, which is long enough to be one.
func (k *sealingKey) open(dst, box, additional []byte) (plain []byte, ok bool) {
	plain, err := k.aead.Open(dst, box[1:boxHeadLen], box[boxHeadLen:], additional)
	if err != nil {
		return nil, false
	}
	if box[0] == boxPadded {
		return unpad(plain, len(plain)-len(dst))
	}
	return plain, true
}

// unpad removes the padding from the last n bytes of plain. The version byte of a
// box is not authenticated: anybody can relabel a box of version 1, so nothing
// about the padding is certain even though the box has opened (W84).
func unpad(plain []byte, n int) (unpadded []byte, ok bool) {
	if n == 0 {
		return nil, false
	}
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > paddingBlock || padding > n {
		return nil, false
	}
	end := len(plain) - padding
	for _, p := range plain[end:] {
		if int(p) != padding {
			return nil, false
		}
	}
	return plain[:end], true
}

package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/age"
)

// An envelope is an age file with two stanzas of ours in its header, which age passes over:
//
//	age-encryption.org/v1
//	-> X25519 …                               the file key, for the key of the object's class
//	-> pgkeep-note                            data objects only: what they hold, for the meta key
//	-> pgkeep-seal KEY WRITER SIZE SHA256     SIZE and SHA256 are of all that follows the header
//	(64 bytes: the writer's signature)
//	--- (MAC)
//
// The signature is over the repository's id, the object's key and every byte of the header before it.
const (
	intro     = "age-encryption.org/v1\n"
	noteType  = "pgkeep-note"
	sealType  = "pgkeep-seal"
	footer    = "---"
	signedAs  = "pgkeep object 1\n"
	macSize   = 32
	sigSize   = 64
	bodyLine  = 64
	sizeWidth = 16 // decimal digits of SIZE, so that headers without a note have one length
	// MaxHead bounds the header of an envelope; age's own readers accept 2 MiB.
	MaxHead = 1 << 20
)

func plainLetters() *base64.Encoding { return base64.RawStdEncoding.Strict() }

// appendStanza writes a stanza as age does.
func appendStanza(dst []byte, s *age.Stanza) []byte {
	dst = append(dst, "-> "+strings.Join(append([]string{s.Type}, s.Args...), " ")+"\n"...)
	text := plainLetters().EncodeToString(s.Body)
	for ; len(text) >= bodyLine; text = text[bodyLine:] {
		dst = append(dst, text[:bodyLine]+"\n"...)
	}
	return append(dst, text+"\n"...)
}

// cutLine takes a line off b. ok is false where b ends before the line does.
func cutLine(b []byte) (line string, rest []byte, ok bool) {
	at := bytes.IndexByte(b, '\n')
	if at < 0 {
		return "", b, false
	}
	return string(b[:at]), b[at+1:], true
}

// cutStanza reads the stanza that b begins with; errShort where b ends before it does.
func cutStanza(b []byte) (s *age.Stanza, rest []byte, err error) {
	line, rest, ok := cutLine(b)
	if !ok {
		return nil, b, errShort
	}
	words := strings.Split(line, " ")
	if len(words) < 2 || words[0] != "->" {
		return nil, b, corrupt("a header of age with the line %.60q", line)
	}
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r < '!' || r > '~' }) {
			return nil, b, corrupt("a header of age with the line %.60q", line)
		}
	}
	s = &age.Stanza{Type: words[1], Args: words[2:]}
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return nil, b, errShort
		}
		part, err := plainLetters().DecodeString(line)
		if err != nil || len(line) > bodyLine || strings.ContainsAny(line, "\r") {
			return nil, b, corrupt("a header of age with a stanza that does not end")
		}
		s.Body = append(s.Body, part...)
		if len(line) < bodyLine {
			return s, rest, nil
		}
	}
}

// Head is what the header of an envelope says. Nothing of it is proven before Vault.Check.
type Head struct {
	Key     string   // id of the repository key that it was sealed with
	Writer  WriterID // who says to have written it
	Payload Digest   // of what follows the header, as stored
	Size    int64    // of the header

	file   *age.Stanza // of the file key
	note   []byte      // sealed; nil: none
	signed []byte      // what the signature is over, beside repository and key
	sig    []byte
	maced  []byte // what the MAC is over
	mac    []byte
}

// Stored gives the length of the whole object.
func (h *Head) Stored() int64 { return h.Size + h.Payload.Size }

// ParseHead reads the header of an envelope from the first bytes of an object. enough is false when b ends before the header does:
// read more, up to MaxHead. Anything that Vault.Seal would not have written is ErrCorrupt.
func ParseHead(b []byte) (h *Head, enough bool, err error) {
	h, err = parseHead(b)
	if err == errShort { //nolint:errorlint // it is given as it is
		if len(b) >= MaxHead {
			return nil, true, corrupt("a header of age that does not end")
		}
		return nil, false, nil
	}
	return h, true, err
}

func parseHead(b []byte) (*Head, error) {
	if n := min(len(b), len(intro)); string(b[:n]) != intro[:n] {
		return nil, corrupt("it is not encrypted")
	}
	if len(b) < len(intro) {
		return nil, errShort
	}
	h := &Head{}
	file, rest, err := cutStanza(b[len(intro):])
	if err != nil {
		return nil, err
	}
	if file.Type != "X25519" {
		return nil, corrupt("a header of age that begins with a stanza %.20q", file.Type)
	}
	h.file = file
	next, after, err := cutStanza(rest)
	if err == nil && next.Type == noteType && len(next.Args) == 0 {
		h.note = append([]byte{}, next.Body...)
		rest = after
		next, after, err = cutStanza(rest)
	}
	if err != nil {
		if bytes.HasPrefix(rest, []byte(footer)) {
			return nil, corrupt("nobody has signed it")
		}
		return nil, err
	}
	if err := h.readSeal(next); err != nil {
		return nil, err
	}
	line, _, _ := cutLine(rest)
	h.signed = b[:len(b)-len(rest)+len(line)+1]
	return h, h.readFooter(b, after)
}

// readSeal reads the stanza that the writer has signed.
func (h *Head) readSeal(s *age.Stanza) error {
	if s.Type != sealType {
		return corrupt("nobody has signed it: a header of age with a stanza %.20q", s.Type)
	}
	if len(s.Args) != 4 || len(s.Body) != sigSize || len(s.Args[2]) != sizeWidth {
		return corrupt("a seal that no pgkeep wrote")
	}
	size, err := strconv.ParseInt(s.Args[2], 10, 64)
	sum, sumErr := letters().DecodeString(s.Args[3])
	writer, writerErr := ParseWriterID(writerPrefix + s.Args[1])
	if err != nil || size < 0 || sumErr != nil || len(sum) != sha256.Size || writerErr != nil {
		return corrupt("a seal that no pgkeep wrote")
	}
	h.Key, h.Writer, h.sig = s.Args[0], writer, s.Body
	h.Payload = Digest{Size: size, SHA256: fmt.Sprintf("%x", sum)}
	return nil
}

// readFooter reads the last line of the header, which begins at rest.
func (h *Head) readFooter(b, rest []byte) error {
	line, after, ok := cutLine(rest)
	if !ok {
		return errShort
	}
	text, ok := strings.CutPrefix(line, footer+" ")
	mac, err := plainLetters().DecodeString(text)
	if !ok || err != nil || len(mac) != macSize {
		return corrupt("a header of age that ends in %.60q", line)
	}
	h.mac, h.maced = mac, b[:len(b)-len(rest)+len(footer)]
	h.Size = int64(len(b) - len(after))
	return nil
}

// signable gives what a writer signs.
func signable(repository, key string, header []byte) []byte {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s%s\n%s\n", signedAs, repository, key)
	sum.Write(header)
	return sum.Sum([]byte(signedAs))
}

// headerMAC is age's.
func headerMAC(fileKey, header []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, fileKey, nil, "header", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a header: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(header)
	return h.Sum(nil), nil
}

// checkMAC tells whether the header is that of the file key.
func (h *Head) checkMAC(fileKey []byte) error {
	want, err := headerMAC(fileKey, h.maced)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, h.mac) {
		return corrupt("the header is not the one that was written: its MAC does not match")
	}
	return nil
}

package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgkeep/pgkeep/state"
)

// MaxSaved is the size up to which a saved plan is written and read, in bytes. A plan of ten thousand servers, each with
// backups to prune, takes 78 MiB.
const MaxSaved = 256 << 20

// ReadSaved reads what Encode wrote. The file may be indented otherwise; all else that is not as it was written is an
// error of code E-PLAN, which says what is wrong: it is too big, cut short, of a newer format, edited, or holds a field twice
// or one that this pgkeep does not know.
//
// The digest protects against accidents, not against somebody who makes it anew: whether a plan may be applied is decided
// by planning again.
func ReadSaved(data []byte) (*Saved, error) {
	if len(data) > MaxSaved {
		return nil, bad("it is bigger than %s, which no plan is", Size(MaxSaved))
	}
	if err := wellFormed(data); err != nil {
		return nil, err
	}
	if err := checkFormat(data); err != nil {
		return nil, err
	}
	if err := unedited(data); err != nil {
		return nil, err
	}
	var s Saved
	if err := strict(data, &s); err != nil {
		return nil, bad("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if s.Format != SavedFormat { // Go's decoder takes "Format" for format, too
		return nil, bad("it has format %d, which never was", s.Format)
	}
	var spec bytes.Buffer
	if err := json.Compact(&spec, s.Spec); err != nil {
		return nil, bad("%s", err)
	}
	s.Spec = spec.Bytes()
	return &s, nil
}

// checkFormat refuses what is no plan, or one of another format. What Encode wrote begins with the format, so that the rest
// need not be read for it.
func checkFormat(data []byte) error {
	var head struct {
		Format *int `json:"format"`
		Made   Made `json:"made"`
	}
	if bytes.HasPrefix(data, fmt.Appendf(nil, `{"format":%d,"made":{`, SavedFormat)) {
		return nil
	}
	if err := json.Unmarshal(data, &head); err != nil || head.Format == nil {
		return bad("it is JSON, but no plan that pgkeep plan --out wrote")
	}
	if *head.Format > SavedFormat {
		e := bad("it has format %d, written by pgkeep %.40q; this pgkeep reads up to %d", *head.Format, head.Made.Version, SavedFormat)
		e.Hint = "use that pgkeep, or plan again"
		return e
	}
	if *head.Format != SavedFormat {
		return bad("it has format %d, which never was", *head.Format)
	}
	return nil
}

func bad(format string, args ...any) *state.Error {
	return &state.Error{
		Code: state.CodePlan, Text: "the saved plan cannot be used: " + fmt.Sprintf(format, args...),
		Hint: "plan again: pgkeep plan --out FILE",
	}
}

// unedited compares the digest at the end with all that stands before it.
func unedited(data []byte) error {
	if fits(bytes.TrimSpace(data)) { // it is as Encode wrote it
		return nil
	}
	var compact bytes.Buffer
	compact.Grow(len(data))
	if err := json.Compact(&compact, data); err != nil {
		return bad("%s", err)
	}
	if !fits(compact.Bytes()) {
		return bad("it was edited, or its end is missing: its digest does not fit what it says")
	}
	return nil
}

// fits tells whether a text ends with the digest of all that stands before it.
func fits(text []byte) bool {
	at := bytes.LastIndex(text, []byte(`,"digest":"sha256:`))
	return at >= 0 && string(text[at:]) == `,"digest":"`+digestOf(text[:at])+`"}`
}

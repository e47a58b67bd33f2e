package plan

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/pgkeep/pgkeep/state"
)

// stepJSON is a step with its action's name beside it, so that it can be read back.
type stepJSON struct {
	ID       string          `json:"id"`
	Verb     string          `json:"action"`
	Action   json.RawMessage `json:"parameters"`
	Change   Change          `json:"change"`
	Impact   Impact          `json:"impact"`
	Host     string          `json:"host,omitempty"`
	Because  []Reason        `json:"because"`
	Effect   string          `json:"effect"`
	Proof    []Proof         `json:"proof,omitempty"`
	Loses    *Loss           `json:"loses,omitempty"`
	Keeps    []Kept          `json:"keeps,omitempty"`
	More     int             `json:"more_kept,omitempty"`
	After    []string        `json:"after,omitempty"`
	Requires []Condition     `json:"requires,omitempty"`
}

// MarshalJSON writes the step with the name of its action.
func (s Step) MarshalJSON() ([]byte, error) {
	action, err := json.Marshal(s.Action)
	if err != nil {
		return nil, fmt.Errorf("write action of %s: %w", s.ID, err)
	}
	return json.Marshal(stepJSON{s.ID, Verb(s.Action), action, s.Change, s.Impact, s.Host, s.Because, s.Effect, s.Proof, s.Loses, s.Keeps, s.KeepsMore, s.After, s.Requires})
}

// UnmarshalJSON reads a step; an action that this pgkeep does not know, or one with unknown fields, is an error.
func (s *Step) UnmarshalJSON(data []byte) error {
	var in stepJSON
	if err := strict(data, &in); err != nil {
		return fmt.Errorf("read step: %w", err)
	}
	read, ok := actions()[in.Verb]
	if !ok {
		return fmt.Errorf("read step %s: this pgkeep knows no action %q", in.ID, in.Verb)
	}
	action, err := read(in.Action)
	if err != nil {
		return fmt.Errorf("read step %s: %w", in.ID, err)
	}
	*s = Step{in.ID, action, in.Change, in.Impact, in.Host, in.Because, in.Effect, in.Proof, in.Loses, in.Keeps, in.More, in.After, in.Requires}
	return nil
}

// rangeJSON is a stretch of HCL as a file and its lines.
type rangeJSON struct {
	File  string       `json:"file"`
	Start positionJSON `json:"start"`
	End   positionJSON `json:"end"`
}

type positionJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

func rangeToJSON(r *hcl.Range) *rangeJSON {
	if r == nil {
		return nil
	}
	return &rangeJSON{r.Filename, positionJSON(r.Start), positionJSON(r.End)}
}

func (r *rangeJSON) hcl() *hcl.Range {
	if r == nil {
		return nil
	}
	return &hcl.Range{Filename: r.File, Start: hcl.Pos(r.Start), End: hcl.Pos(r.End)}
}

type reasonJSON struct {
	Code  string     `json:"code"`
	Text  string     `json:"text"`
	Range *rangeJSON `json:"range,omitempty"`
}

// MarshalJSON writes the reason.
func (r Reason) MarshalJSON() ([]byte, error) {
	return json.Marshal(reasonJSON{r.Code, r.Text, rangeToJSON(r.Range)})
}

// UnmarshalJSON reads what MarshalJSON wrote; a field that it does not know is an error.
func (r *Reason) UnmarshalJSON(data []byte) error {
	var in reasonJSON
	if err := strict(data, &in); err != nil {
		return fmt.Errorf("read reason: %w", err)
	}
	*r = Reason{in.Code, in.Text, in.Range.hcl()}
	return nil
}

type findingJSON struct {
	Severity Severity   `json:"severity"`
	Code     state.Code `json:"code"`
	Subject  string     `json:"subject"`
	Text     string     `json:"text"`
	Hint     string     `json:"hint,omitempty"`
	Range    *rangeJSON `json:"range,omitempty"`
}

// MarshalJSON writes the finding.
func (f Finding) MarshalJSON() ([]byte, error) {
	return json.Marshal(findingJSON{f.Severity, f.Code, f.Subject, f.Text, f.Hint, rangeToJSON(f.Range)})
}

// UnmarshalJSON reads what MarshalJSON wrote; a field that it does not know is an error.
func (f *Finding) UnmarshalJSON(data []byte) error {
	var in findingJSON
	if err := strict(data, &in); err != nil {
		return fmt.Errorf("read finding: %w", err)
	}
	*f = Finding{in.Severity, in.Code, in.Subject, in.Text, in.Hint, in.Range.hcl()}
	return nil
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func readAs[A Action](data []byte) (Action, error) {
	var a A
	err := strict(data, &a)
	return a, err
}

// Verbs gives the name of every action, sorted.
func Verbs() []string { return sortedNames(actions()) }

// actions lists how each action is read.
func actions() map[string]func([]byte) (Action, error) {
	return map[string]func([]byte) (Action, error){
		"create-repository": readAs[CreateRepository],
		"create-slot":       readAs[CreateSlot],
		"replace-slot":      readAs[ReplaceSlot],
		"drop-slot":         readAs[DropSlot],
		"start-receiver":    readAs[StartReceiver],
		"stop-receiver":     readAs[StopReceiver],
		"record-gap":        readAs[RecordGap],
		"follow-timeline":   readAs[FollowTimeline],
		"take-backup":       readAs[TakeBackup],
		"remove-incomplete": readAs[RemoveIncomplete],
		"prune":             readAs[Prune],
		"prune-wal":         readAs[PruneWAL],
		"recover-to":        readAs[RecoverTo],
		"switch-wal":        readAs[SwitchWAL],
		"verify":            readAs[Verify],
		"copy-backup":       readAs[CopyBackup],
		"copy-wal":          readAs[CopyWAL],
		"repair":            readAs[Repair],
		"extend-lock":       readAs[ExtendLock],
		"drill":             readAs[Drill],
	}
}

package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// stepJSON is a step with its action's name beside it, so that it can be read back.
type stepJSON struct {
	ID       string
	Verb     string
	Action   json.RawMessage
	Change   Change
	Impact   Impact
	Host     string `json:",omitempty"`
	Because  []Reason
	Effect   string
	After    []string    `json:",omitempty"`
	Requires []Condition `json:",omitempty"`
}

// MarshalJSON writes the step with the name of its action.
func (s Step) MarshalJSON() ([]byte, error) {
	action, err := json.Marshal(s.Action)
	if err != nil {
		return nil, fmt.Errorf("write action of %s: %w", s.ID, err)
	}
	return json.Marshal(stepJSON{s.ID, Verb(s.Action), action, s.Change, s.Impact, s.Host, s.Because, s.Effect, s.After, s.Requires})
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
	*s = Step{in.ID, action, in.Change, in.Impact, in.Host, in.Because, in.Effect, in.After, in.Requires}
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
	}
}

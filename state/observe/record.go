package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/pgkeep/pgkeep/state"
)

// Record writes an observation as versioned JSON, so that a plan can be made from it later and elsewhere. It holds no
// secret: of settings whose value is a command, which may hold one, only that they are set is recorded.
func Record(w io.Writer, seen state.Observation) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(recording{Kind: recordKind, Observation: withoutCommands(seen)}); err != nil {
		return fmt.Errorf("write observation: %w", err)
	}
	return nil
}

// recordKind tells a recorded observation from other JSON.
const recordKind = "pgkeep observation"

// recording is the file: an Observation and what it is.
type recording struct {
	Kind string `json:"kind"`
	state.Observation
}

// notRecorded stands in the place of a command.
const notRecorded = "(set; not recorded)"

func withoutCommands(seen state.Observation) state.Observation {
	seen.Servers, seen.Standbys = settingsWithoutCommands(seen.Servers), settingsWithoutCommands(seen.Standbys)
	return seen
}

func settingsWithoutCommands(of map[string]state.Server) map[string]state.Server {
	servers := maps.Clone(of)
	for name, s := range servers {
		settings := maps.Clone(s.Settings)
		for _, command := range []string{"archive_command", "archive_library"} {
			if settings[command] != "" {
				settings[command] = notRecorded
			}
		}
		s.Settings = settings
		servers[name] = s
	}
	return servers
}

// maxRecording bounds what Recorded reads.
const maxRecording = 1 << 30

// Recorded reads what Record wrote. What is no recorded observation, is cut short, has a field that this pgkeep does not
// know or is of a newer format is refused: a plan made from a part of a world would be wrong.
func Recorded(r io.Reader) (state.Observation, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxRecording+1))
	if err != nil {
		return state.Observation{}, fmt.Errorf("read recorded observation: %w", err)
	}
	if len(body) > maxRecording {
		return state.Observation{}, refused("it is longer than 1 GiB", nil)
	}
	var head struct {
		Kind    string `json:"kind"`
		Version int    `json:"version"`
	}
	switch err := json.Unmarshal(body, &head); {
	case err != nil:
		return state.Observation{}, refused("it is cut short, or no JSON", err)
	case head.Kind != recordKind:
		return state.Observation{}, refused(fmt.Sprintf("its kind is %q, not %q", head.Kind, recordKind), nil)
	case head.Version > state.ObservationVersion:
		return state.Observation{}, &state.Error{
			Code: state.CodeNewerFormat, Hint: "plan with the pgkeep that recorded it, or a newer one",
			Text: fmt.Sprintf("the recorded observation has format %d, and this pgkeep reads up to %d", head.Version, state.ObservationVersion),
		}
	case head.Version < 1:
		return state.Observation{}, refused(fmt.Sprintf("its format is %d", head.Version), nil)
	}
	var f recording
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return state.Observation{}, refused("it was changed, or written by another pgkeep", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return state.Observation{}, refused("something follows its end", nil)
	}
	return f.Observation, nil
}

func refused(why string, err error) error {
	return &state.Error{Code: state.CodeCorrupt, Text: "this recorded observation cannot be used: " + why, Hint: "record it again: pgkeep observe --out FILE", Err: err}
}

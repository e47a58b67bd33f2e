package plan

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// routeJSON is a Route as it is written: what is not set left out.
type routeJSON struct {
	Server         string          `json:"server"`
	SystemID       string          `json:"system_id"`
	Repository     string          `json:"repository"`
	SegmentSize    wal.SegmentSize `json:"segment_size"`
	Backup         string          `json:"backup"`
	Target         targetJSON      `json:"target"`
	Destination    destinationJSON `json:"destination"`
	WALWait        string          `json:"wal_wait"`
	Path           []wal.Range     `json:"path"`
	TargetTimeline wal.Timeline    `json:"target_timeline"`
	End            wal.LSN         `json:"end"`
	Before         *state.Commit   `json:"before,omitempty"`
	After          *state.Commit   `json:"after,omitempty"`
	AtEnd          bool            `json:"at_end,omitempty"`
	DataBytes      int64           `json:"data_bytes"`
	WALBytes       int64           `json:"wal_bytes"`
}

// targetJSON and destinationJSON have the fields of hclspec's types, so that one converts to the other.
type targetJSON struct {
	Time      time.Time    `json:"time,omitzero"`
	LSN       wal.LSN      `json:"lsn,omitzero"`
	XID       uint32       `json:"xid,omitempty"`
	Restore   string       `json:"name,omitempty"`
	Immediate bool         `json:"immediate,omitempty"`
	Latest    bool         `json:"latest,omitempty"`
	Inclusive bool         `json:"inclusive"`
	Timeline  wal.Timeline `json:"timeline,omitzero"`
	Action    string       `json:"action"`
}

type destinationJSON struct {
	Host        string            `json:"host,omitempty"`
	Path        string            `json:"path"`
	Owner       string            `json:"owner,omitempty"`
	BinDir      string            `json:"bindir,omitempty"`
	Port        int               `json:"port,omitempty"`
	Tablespaces map[string]string `json:"tablespaces,omitempty"`
	WAL         string            `json:"wal"`
	Overwrite   bool              `json:"overwrite,omitempty"`

	PrimaryConninfo string `json:"primary_conninfo,omitempty"`
	PrimarySlot     string `json:"primary_slot_name,omitempty"`

	Databases []string `json:"databases,omitempty"`
}

// MarshalJSON writes the route.
func (r Route) MarshalJSON() ([]byte, error) {
	return json.Marshal(routeJSON{
		r.Server, r.SystemID, r.Repository, r.SegmentSize, r.Backup, targetJSON(r.Target), destinationJSON(r.Destination),
		r.WALWait.String(), r.Path, r.TargetTimeline, r.End, r.Before, r.After, r.AtEnd, r.DataBytes, r.WALBytes,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote; a field that it does not know is an error.
func (r *Route) UnmarshalJSON(data []byte) error {
	var in routeJSON
	if err := strict(data, &in); err != nil {
		return fmt.Errorf("read route: %w", err)
	}
	wait, err := time.ParseDuration(in.WALWait)
	if err != nil {
		return fmt.Errorf("read route: %w", err)
	}
	*r = Route{
		in.Server, in.SystemID, in.Repository, in.SegmentSize, in.Backup, hclspec.Target(in.Target), hclspec.Destination(in.Destination),
		wait, in.Path, in.TargetTimeline, in.End, in.Before, in.After, in.AtEnd, in.DataBytes, in.WALBytes,
	}
	return nil
}

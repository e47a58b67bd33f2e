package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/wal"
)

// routeFile is route.json: all that wal-get knows.
type routeFile struct {
	Version      int             `json:"version"`
	Server       string          `json:"server"`
	SystemID     string          `json:"system_id"`
	SegmentSize  wal.SegmentSize `json:"segment_size"`
	Timeline     wal.Timeline    `json:"timeline"`          // that recovery ends on
	Path         []wal.Range     `json:"path"`              // WAL that must exist, oldest first
	CutAt        wal.LSN         `json:"cut_at"`            // what is beyond is withheld; zero: PostgreSQL stops by itself
	WaitSeconds  float64         `json:"wait_seconds"`      // how long an absent or failing repository is asked again
	Repositories []Place         `json:"repositories"`      // empty: everything is in Local
	Local        string          `json:"local"`             // directory of WAL that was copied beforehand
	Standby      bool            `json:"standby,omitempty"` // it goes on behind the route, and asks without end
}

func (r *restore) writeRoute() error {
	return r.replace(r.beside, routeName, r.routeContent())
}

func (r *restore) routeContent() []byte { return append(encodeRoute(r.Route, r.Places), '\n') }

func encodeRoute(route plan.Route, places []Place) []byte {
	f := routeFile{
		Version: 1, Server: route.Server, SystemID: route.SystemID, SegmentSize: route.SegmentSize, Timeline: route.TargetTimeline,
		Path: route.Path, WaitSeconds: route.WALWait.Seconds(), Repositories: places,
		Local: filepath.Join(stateDir(route.Destination.Path), walDir),
	}
	f.Standby = route.Destination.PrimaryConninfo != ""
	if !f.Standby && (route.AtEnd || route.Target.Latest) {
		f.CutAt = route.End
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil { // plain values only: cannot be
		return nil
	}
	return b
}

func readRoute(path string) (*routeFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the route: %w", err)
	}
	var f routeFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read the route %s: %w", path, err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("read the route %s: it is of version %d, this pgkeep reads 1", path, f.Version)
	}
	if err := f.SegmentSize.Check(); err != nil {
		return nil, fmt.Errorf("read the route %s: %w", path, err)
	}
	if len(f.Path) == 0 || f.Timeline == 0 || f.SystemID == "" || f.Server == "" {
		return nil, errors.New("read the route " + path + ": it is incomplete")
	}
	return &f, nil
}

// wait is how long a history is asked for again; zero: without end. A standby cannot do without those up to its route's end. Behind
// that its primary tells it of them.
func (f *routeFile) wait(t wal.Timeline) time.Duration {
	if f.Standby && t <= f.Timeline {
		return 0
	}
	return f.patience()
}

func (f *routeFile) patience() time.Duration {
	return time.Duration(f.WaitSeconds * float64(time.Second))
}

// needs tells up to where recovery needs the segment; ok is false when it lies outside the route.
func (f *routeFile) needs(seg wal.Segment) (upTo wal.LSN, ok bool) {
	z := f.SegmentSize
	for _, r := range f.Path {
		if r.Timeline == seg.Timeline && seg.Start(z) < r.To && z.Floor(r.From) <= seg.Start(z) {
			upTo, ok = max(upTo, min(r.To, seg.End(z))), true
		}
	}
	return upTo, ok
}

// segments lists every segment of the route in order.
func (f *routeFile) segments() []wal.Segment {
	var out []wal.Segment
	z := f.SegmentSize
	for _, r := range f.Path {
		for seg := z.SegmentAt(r.Timeline, r.From); seg.Start(z) < r.To; seg = seg.Next() {
			out = append(out, seg)
		}
	}
	return out
}

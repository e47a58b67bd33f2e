package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// DrillKind is the kind of evidence that a drill leaves.
const DrillKind = "drill"

// Drill is what a drill has shown: a backup that was restored for real, a server that was started in it and asked. It is the
// entry of a piece of evidence, and holds no secret.
type Drill struct {
	Kind       string    `json:"kind"` // DrillKind
	Drill      string    `json:"drill"`
	Server     string    `json:"server"` // stored name
	SystemID   string    `json:"system_id"`
	Repository string    `json:"repository"` // label
	Backup     string    `json:"backup"`
	Target     string    `json:"target"` // latest | random | immediate
	Host       string    `json:"host"`   // the machine that it ran on
	Who        string    `json:"who,omitempty"`
	Program    string    `json:"program,omitempty"` // version of pgkeep
	Version    int       `json:"version,omitempty"` // server_version_num of the copy; 0: it never answered
	Began      time.Time `json:"began"`
	Ended      time.Time `json:"ended"`
	Passed     bool      `json:"passed"`
	Failures   []string  `json:"failures,omitempty"` // of one that did not pass: a sentence each, at most a hundred
	Notes      []string  `json:"notes,omitempty"`    // what an auditor should know of one that did: what was left out, and why

	Timeline wal.Timeline `json:"timeline,omitempty"` // that was recovered
	// TargetLSN is the position that was recovered to, where the target is random; zero: it is not.
	TargetLSN wal.LSN   `json:"target_lsn,omitempty"`
	End       wal.LSN   `json:"end,omitempty"`      // up to which WAL was there to be replayed
	LastTime  time.Time `json:"last_time,omitzero"` // when the last transaction ended that the copy holds; zero: the log did not say
	// Phases are those of the restore, then "start" and "replay", then "checks" and "remove".
	Phases []DrillPhase `json:"phases,omitempty"`
	// RTO is how long the recovery took, in seconds: all of Phases but "checks" and "remove". 0: it did not come so far.
	RTO float64 `json:"rto,omitempty"`

	Amcheck DrillAmcheck `json:"amcheck"`
	Checks  []Answer     `json:"checks,omitempty"`
	Rows    []DrillRows  `json:"rows,omitempty"` // by database and table
}

// DrillPhase is one part of a drill and how long it took.
type DrillPhase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes,omitempty"`
}

// DrillAmcheck is what amcheck looked at.
type DrillAmcheck struct {
	Level     string `json:"level"` // full | index | off, as it was asked for
	Databases int    `json:"databases"`
	Indexes   int    `json:"indexes"`           // B-trees that were checked
	Tables    int    `json:"tables"`            // heaps that were checked; PostgreSQL 13 cannot
	Skipped   string `json:"skipped,omitempty"` // why not all of it was done
	Findings  int    `json:"findings"`          // how many relations are damaged; Drill.Failures names them
}

// DrillRows is how many rows a table of the copy has.
type DrillRows struct {
	Database string `json:"database"`
	Table    string `json:"table"` // schema and name
	Rows     int64  `json:"rows"`
	Before   *int64 `json:"before,omitempty"` // in the drill before; nil: it was not counted there
}

// Seconds gives how long the phases of these names took together.
func (d Drill) Seconds(names ...string) float64 {
	var sum float64
	for _, p := range d.Phases {
		for _, n := range names {
			if p.Name == n {
				sum += p.Seconds
			}
		}
	}
	return sum
}

// Recovery gives how long the recovery itself took: every phase but "checks" and "remove".
func (d Drill) Recovery() float64 {
	var sum float64
	for _, p := range d.Phases {
		sum += p.Seconds
	}
	return sum - d.Seconds("checks", "remove")
}

package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Facts is what a journal remembers of one server after an apply, so that a later look can say what changed meanwhile
// without pgkeep. It is small, and holds no secret.
type Facts struct {
	SystemID string            `json:"system_id,omitempty"`
	Version  int               `json:"version,omitempty"` // server_version_num
	Timeline wal.Timeline      `json:"timeline,omitempty"`
	Role     *Role             `json:"role,omitempty"`     // what the connecting role could do
	Settings map[string]string `json:"settings,omitempty"` // those that decide something here
	Slot     string            `json:"slot,omitempty"`     // wal_status of the server's own slot; "absent": it was not there
	Receiver string            `json:"receiver,omitempty"` // running | stopped
	// Backups are the ids of the committed and damaged backups that no TOMB hides, by repository.
	Backups map[string][]string `json:"backups,omitempty"`
	// Repositories are the repositories' ids, by label.
	Repositories map[string]string `json:"repositories,omitempty"`
}

// Remembered is the newest journal entry of a server that has facts.
type Remembered struct {
	Unknown *Unknown  `json:"unknown,omitempty"` // why the journal could not be read; nil: it was
	At      time.Time `json:"at"`                // when that apply ended; zero: no entry has facts
	Who     string    `json:"who,omitempty"`     // user@host
	Facts   Facts     `json:"facts"`
}

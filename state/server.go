package state

import (
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// Server is one PostgreSQL cluster as seen over one connection.
type Server struct {
	Unknown       *Unknown          `json:"unknown,omitempty"`
	SystemID      string            `json:"system_id,omitempty"` // decimal, as pg_control_system() gives it
	Version       int               `json:"version,omitempty"`   // server_version_num, for example 150018
	InRecovery    bool              `json:"in_recovery,omitempty"`
	Timeline      wal.Timeline      `json:"timeline,omitempty"`
	History       *History          `json:"history,omitempty"`    // of Timeline, as the server gives it; nil: timeline 1, or not asked
	FlushLSN      wal.LSN           `json:"flush_lsn,omitempty"`  // primary: end of flushed WAL; standby: end of received WAL
	ReplayLSN     wal.LSN           `json:"replay_lsn,omitempty"` // standby: end of replayed WAL
	SegmentSize   wal.SegmentSize   `json:"segment_size,omitempty"`
	PageSize      int               `json:"page_size,omitempty"`
	PageChecksums bool              `json:"page_checksums,omitempty"`
	Now           time.Time         `json:"now"`                // the server's clock
	Settings      map[string]string `json:"settings,omitempty"` // those that decide something here; absent: not readable
	// WALCompressions are the values that wal_compression may have, from 15 on: zstd and lz4 are among them when the server was
	// built with them. Nil: not known.
	WALCompressions []string     `json:"wal_compressions,omitempty"`
	Role            Role         `json:"role"`
	Slots           []Slot       `json:"slots,omitempty"`   // all physical and logical slots
	Senders         []Sender     `json:"senders,omitempty"` // pg_stat_replication, as far as the role may see
	Tablespaces     []Tablespace `json:"tablespaces,omitempty"`
	SizeBytes       int64        `json:"size_bytes,omitempty"` // sum of pg_tablespace_size where readable; 0: not known
	Patroni         bool         `json:"patroni,omitempty"`    // Patroni manages the cluster
	Host            string       `json:"host,omitempty"`       // the host and port that answered
	Walsender       *Walsender   `json:"walsender,omitempty"`  // nil: no replication connection was tried
}

// Walsender is what came of a replication connection that was opened only to see whether it can be.
type Walsender struct {
	Unknown  *Unknown     `json:"unknown,omitempty"`
	Host     string       `json:"host,omitempty"`      // the host and port that answered
	SystemID string       `json:"system_id,omitempty"` // as IDENTIFY_SYSTEM gives it
	Timeline wal.Timeline `json:"timeline,omitempty"`
}

// Major gives 15 for 150018.
func (s Server) Major() int { return s.Version / 10000 }

// Role is what the connecting role may do.
type Role struct {
	Name            string `json:"name,omitempty"`
	Superuser       bool   `json:"superuser,omitempty"`
	Replication     bool   `json:"replication,omitempty"`
	SwitchWAL       bool   `json:"switch_wal,omitempty"`        // EXECUTE on pg_switch_wal()
	CreateRestore   bool   `json:"create_restore,omitempty"`    // EXECUTE on pg_create_restore_point(text)
	ReadAllSettings bool   `json:"read_all_settings,omitempty"` // member of pg_read_all_settings or pg_monitor
	ReadAllStats    bool   `json:"read_all_stats,omitempty"`    // member of pg_read_all_stats or pg_monitor
}

// The values of Slot.WALStatus, from pg_replication_slots.wal_status (13 to 18).
const (
	SlotReserved   = "reserved"
	SlotExtended   = "extended"
	SlotUnreserved = "unreserved"
	SlotLost       = "lost"
)

// Slot is one row of pg_replication_slots.
type Slot struct {
	Name         string  `json:"name"`
	Physical     bool    `json:"physical"`
	Temporary    bool    `json:"temporary,omitempty"`
	Active       bool    `json:"active"`
	ActivePID    int     `json:"active_pid,omitempty"`
	RestartLSN   wal.LSN `json:"restart_lsn,omitempty"` // zero: the slot reserves nothing
	WALStatus    string  `json:"wal_status,omitempty"`  // empty when RestartLSN is zero and the slot is not lost
	SafeBytes    *int64  `json:"safe_bytes,omitempty"`  // safe_wal_size; nil: no limit
	Retained     int64   `json:"retained"`              // bytes of WAL that the slot holds back
	Invalidation string  `json:"invalidation,omitempty"`
}

// Sender is one row of pg_stat_replication.
type Sender struct {
	PID         int     `json:"pid"`
	User        string  `json:"user,omitempty"`
	Application string  `json:"application,omitempty"`
	Address     string  `json:"address,omitempty"`
	State       string  `json:"state,omitempty"`
	SyncState   string  `json:"sync_state,omitempty"`
	Sent        wal.LSN `json:"sent,omitempty"`
	Written     wal.LSN `json:"written,omitempty"`
	Flushed     wal.LSN `json:"flushed,omitempty"`
}

// Tablespace is one outside pg_default and pg_global.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Name     string `json:"name"`
	Location string `json:"location,omitempty"`
	Size     int64  `json:"size,omitempty"` // bytes; 0: not known
}

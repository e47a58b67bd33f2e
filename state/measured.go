package state

import "time"

// Measured is how long the parts of one recovery or drill took, as its evidence in the repository says.
type Measured struct {
	At     time.Time `json:"at"`   // when it ended
	What   string    `json:"what"` // "recovery" or the kind that its evidence names, as "drill"
	Backup string    `json:"backup,omitempty"`
	// Restore is from the first look at the destination until every file was durable, WAL that was copied left out.
	Restore Work `json:"restore,omitzero"`
	CopyWAL Work `json:"copy_wal,omitzero"` // WAL that was copied beside the data directory
	Replay  Work `json:"replay,omitzero"`   // from the server's start, or from where Start ends, until the target
	Start   Work `json:"start,omitzero"`    // of the server until it replays, where that was measured apart
}

// Work is an amount and the time that it took; zero seconds: it was not measured.
type Work struct {
	Bytes   int64   `json:"bytes,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// PerSecond gives the rate in bytes a second; zero: it was not measured.
func (w Work) PerSecond() float64 {
	if w.Seconds <= 0 || w.Bytes <= 0 {
		return 0
	}
	return float64(w.Bytes) / w.Seconds
}

// Empty tells whether nothing in it was measured.
func (m Measured) Empty() bool {
	return m.Restore.Seconds == 0 && m.CopyWAL.Seconds == 0 && m.Replay.Seconds == 0 && m.Start.Seconds == 0
}

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
)

// TestInitNotes: what init --from-server tells of other users of a server's WAL, and of what it saw.
func TestInitNotes(t *testing.T) {
	d := draft{name: "shop-eu", seen: state.Server{
		SystemID: "7", Version: 150018, Timeline: 3, InRecovery: true, Patroni: true, SegmentSize: 16 << 20, SizeBytes: 3 << 30, PageChecksums: true,
		Settings:    map[string]string{"archive_mode": "on", "max_slot_wal_keep_size": "1024", "wal_level": "logical"},
		Slots:       []state.Slot{{Name: "barman", Retained: 5 << 20}, {Name: "odd\x1b[31m"}},
		Tablespaces: []state.Tablespace{{Name: "fast", Location: "/mnt/nvme/fast"}},
		Role:        state.Role{Name: "pgkeep", Replication: true},
	}}
	if diff := cmp.Diff([]string{
		"it is a standby: name all members, host=A,B, so that the writable one is found and followed",
		"archive_mode = on: something archives WAL already; pgkeep streams beside it and changes nothing there",
		"slot barman is another's, holds back 5MiB; it is left alone",
		"slot odd?[31m is another's; it is left alone",
		"Patroni manages it and drops slots that it does not know. In its dynamic configuration (patronictl edit-config):",
		"  ignore_slots: [{name: pgkeep_shop_eu, type: physical}]",
		"max_slot_wal_keep_size = 1024 MB: a receiver that is away for longer than that loses its slot",
	}, d.notes()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"PostgreSQL 15.18, a standby, system identifier 7, timeline 3",
		"3GiB, data checksums, WAL segments of 16MiB",
		"tablespace fast in /mnt/nvme/fast",
		"wal_level = logical, archive_mode = on",
		"role pgkeep: LOGIN and REPLICATION",
	}, d.facts()); diff != "" {
		t.Error(diff)
	}
	quiet := draft{name: "a", seen: state.Server{Settings: map[string]string{"archive_mode": "off", "max_slot_wal_keep_size": "-1"}}}
	if got := quiet.notes(); len(got) != 0 {
		t.Errorf("of a server that nobody else uses: %q", got)
	}
}

package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/wal"
)

// homesOf makes the server's repositories, each with these backups.
func homesOf(now time.Time, all ...[]state.Backup) (*builder, *server) {
	s := &server{Server: &hclspec.Server{Name: "orders", Address: "server.orders", Backup: hclspec.Backup{FullEvery: 7 * 24 * time.Hour}}}
	s.seen = state.Server{Version: 150018, Timeline: 1}
	for i, backups := range all {
		c := &state.Cluster{SegmentSize: wal.DefaultSegmentSize, Backups: backups}
		spec := &hclspec.Repository{Name: string(rune('a' + i)), Address: "repository." + string(rune('a'+i))}
		s.homes = append(s.homes, &home{place: &place{spec: spec}, archive: newArchive(c, 1)})
	}
	return &builder{now: now}, s
}

func TestKindOf(t *testing.T) {
	now := time.Date(2026, 2, 10, 1, 0, 0, 0, time.UTC)
	backup := func(id string, age time.Duration, change func(*state.Backup)) state.Backup {
		b := state.Backup{
			ID: id, State: state.BackupCommitted, Kind: "full", Version: 150018, Timeline: 1, Redo: 0x2000028, Stop: 0x2000100,
			Began: now.Add(-age), Ended: now.Add(-age + time.Minute), StoredBytes: 1 << 20, DataBytes: 3 << 20,
		}
		if change != nil {
			change(&b)
		}
		return b
	}
	const day = 24 * time.Hour
	chained := func(depth int, age time.Duration, referred, live int64) func(*state.Backup) {
		return func(b *state.Backup) {
			b.Kind = "incremental"
			b.Chain = &state.BackupChain{Depth: depth, Full: "F", Began: now.Add(-age), ReferredBytes: referred, LiveBytes: live}
		}
	}
	full := backup("F", day, nil)
	for _, c := range []struct {
		name, asked, kind, parent, code, text string
		repositories                          [][]state.Backup
	}{
		{"nothing there", "auto", "full", "", "", "", [][]state.Backup{{}}},
		{"a full is asked for", "full", "full", "", "", "", [][]state.Backup{{full}}},
		{"by default", "", "full", "", "", "", [][]state.Backup{{full}}},
		{"auto", "auto", "incremental", "F", "incremental", "number 1 of its chain", [][]state.Backup{{full}}},
		{"on an incremental", "auto", "incremental", "I", "incremental", "number 3 of its chain", [][]state.Backup{{full, backup("I", time.Hour, chained(2, day, 100, 90))}}},
		{"full_every is over", "auto", "full", "", "full-due", "7 d", [][]state.Backup{{backup("F", 8*day, nil)}}},
		{"full_every is all but over", "auto", "full", "", "full-due", "7 d", [][]state.Backup{{backup("F", 7*day-time.Minute, nil)}}},
		{"the chain's full is old", "auto", "full", "", "full-due", "7 d", [][]state.Backup{{backup("I", time.Hour, chained(2, 8*day, 100, 90))}}},
		{"incremental for ever", "incremental", "incremental", "F", "incremental", "", [][]state.Backup{{backup("F", 80*day, nil)}}},
		{"a long chain", "incremental", "full", "", "chain-long", "14 others", [][]state.Backup{{backup("I", time.Hour, chained(14, day, 100, 90))}}},
		{"the last of a chain", "incremental", "incremental", "I", "incremental", "number 14", [][]state.Backup{{backup("I", time.Hour, chained(13, day, 100, 90))}}},
		{"references past half", "auto", "full", "", "chain-thin", "half", [][]state.Backup{{backup("I", time.Hour, chained(3, day, 100, 49))}}},
		{"one repository lacks it", "auto", "full", "", "no-parent", "repository.b lacks F", [][]state.Backup{{full}, {backup("G", day, nil)}}},
		{"one repository is empty", "auto", "full", "", "no-parent", "repository.b lacks F", [][]state.Backup{{full}, {}}},
		{"the newest in both", "auto", "incremental", "F", "incremental", "", [][]state.Backup{{full, backup("G", time.Hour, nil)}, {full}}},
		{"another version", "auto", "full", "", "no-parent", "PostgreSQL 14", [][]state.Backup{{backup("F", day, func(b *state.Backup) { b.Version = 140020 })}}},
		{"another line of history", "auto", "full", "", "no-parent", "line of history", [][]state.Backup{{backup("F", day, func(b *state.Backup) { b.Timeline = 7 })}}},
		{"damaged", "auto", "full", "", "", "", [][]state.Backup{{backup("F", day, func(b *state.Backup) { b.State = state.BackupDamaged })}}},
		{"a damaged one after it", "auto", "incremental", "F", "incremental", "", [][]state.Backup{{full, backup("G", time.Hour, func(b *state.Backup) { b.State = state.BackupDamaged })}}},
		{"from the future", "auto", "full", "", "no-parent", "future", [][]state.Backup{{backup("F", -2*day, nil)}}},
		{"an old chain", "auto", "full", "", "no-parent", "stands on", [][]state.Backup{{backup("I", day, func(b *state.Backup) { b.Kind = "incremental" })}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := homesOf(now, c.repositories...)
			kind, parent, why := b.kindOf(s, c.asked)
			if kind != c.kind || parent != c.parent {
				t.Errorf("%s on %q, want %s on %q", kind, parent, c.kind, c.parent)
			}
			switch {
			case why == nil && c.code != "", why != nil && (why.Code != c.code || !strings.Contains(why.Text, c.text)):
				t.Errorf("because %+v, want %s with %q", why, c.code, c.text)
			}
		})
	}
}

// TestKindOfTold: from 17 on the server may tell what changed; without it a backup that was told of cannot be compared with.
func TestKindOfTold(t *testing.T) {
	now := time.Date(2026, 2, 10, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		version  int
		setting  string
		told     bool // the parent was
		kind     string
		says     string
		saysNone string
	}{
		{150018, "", false, "incremental", "", "summarize_wal"},
		{170010, "on", false, "incremental", "the server is asked", "summarize_wal"},
		{170010, "on", true, "incremental", "the server is asked", "summarize_wal"},
		{170010, "off", false, "incremental", "summarize_wal is off: the whole cluster is read and compared", "asked"},
		{180004, "off", true, "full", "I has not the hashes of all its pages, and summarize_wal is off", "asked"},
		{180004, "", true, "incremental", "", "summarize_wal"}, // not seen: the backup itself finds out
	} {
		b, s := homesOf(now, []state.Backup{{
			ID: "I", State: state.BackupCommitted, Kind: "incremental", Version: c.version, Timeline: 1, Redo: 0x2000028, Stop: 0x2000100, Began: now.Add(-time.Hour),
			Ended: now, Chain: &state.BackupChain{Depth: 1, Full: "F", Began: now.Add(-time.Hour), ReferredBytes: 9, LiveBytes: 9, Summaries: c.told},
		}})
		s.seen.Version, s.seen.Settings = c.version, map[string]string{}
		if c.setting != "" {
			s.seen.Settings["summarize_wal"] = c.setting
		}
		kind, _, why := b.kindOf(s, "incremental")
		if kind != c.kind || why == nil || !strings.Contains(why.Text, c.says) || strings.Contains(why.Text, c.saysNone) {
			t.Errorf("%+v: %s because %+v", c, kind, why)
		}
	}
}

// TestKindOfToldAcrossTimelines: what a server tells across a change of timeline is not believed, so no plan promises it.
func TestKindOfToldAcrossTimelines(t *testing.T) {
	now := time.Date(2026, 2, 10, 1, 0, 0, 0, time.UTC)
	for _, told := range []bool{false, true} {
		b, s := homesOf(now)
		c := &state.Cluster{
			SegmentSize: wal.DefaultSegmentSize,
			Histories:   []state.History{{Timeline: 2, Parents: []state.Parent{{Timeline: 1, Switch: 0x3000000}}}},
			Backups: []state.Backup{{
				ID: "I", State: state.BackupCommitted, Kind: "incremental", Version: 170010, Timeline: 1, Redo: 0x2000028, Stop: 0x2000100, Began: now.Add(-time.Hour),
				Ended: now, Chain: &state.BackupChain{Depth: 1, Full: "F", Began: now.Add(-time.Hour), ReferredBytes: 9, LiveBytes: 9, Summaries: told},
			}},
		}
		s.homes = []*home{{place: &place{spec: &hclspec.Repository{Name: "a", Address: "repository.a"}}, archive: newArchive(c, 2)}}
		s.seen.Version, s.seen.Timeline, s.seen.Settings = 170010, 2, map[string]string{"summarize_wal": "on"}
		want, says := "incremental", "I is of timeline 1 and the server of 2: the whole cluster is read and compared"
		if told {
			want, says = "full", "I has not the hashes of all its pages, and is of timeline 1 and the server of 2"
		}
		if kind, _, why := b.kindOf(s, "incremental"); kind != want || why == nil || !strings.Contains(why.Text, says) {
			t.Errorf("parent told %v: %s because %+v", told, kind, why)
		}
	}
}

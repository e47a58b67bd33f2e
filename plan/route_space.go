package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

// tablespaceRefusal refuses a destination that has no place for a tablespace of the backup, or an occupied one. Where the
// server had a tablespace is never taken for granted: a live server may be there.
func tablespaceRefusal(rec hclspec.Recovery, r *Route, d state.Destination) *refusal {
	var unmapped, lines []string
	for _, t := range d.Tablespaces[r.Backup] {
		dir, ok := mappedTo(rec.Destination, t)
		if ok && slices.Contains(d.Taken, dir) && !d.Ours && !overwrites(rec, d) {
			return &refusal{state.CodeDestination, fmt.Sprintf("%s, the target of tablespace %s, is not empty", dir, tablespaceKey(t)), "choose an empty directory, or restore over it with overwrite = true (--overwrite)"}
		}
		if ok {
			continue
		}
		text := fmt.Sprintf("%s (on the server in %s", tablespaceKey(t), t.Location)
		if t.Exists {
			text += ", which exists on this machine too"
		}
		unmapped = append(unmapped, text+")")
		lines = append(lines, fmt.Sprintf("%s = %q", hclKey(tablespaceKey(t)), filepath.Join(filepath.Dir(rec.Destination.Path), "tablespaces", tablespaceKey(t))))
	}
	if len(unmapped) == 0 {
		return nil
	}
	return &refusal{
		state.CodeDestination, fmt.Sprintf("backup %s has tablespaces that the destination gives no directory: %s", r.Backup, strings.Join(unmapped, ", ")),
		"write tablespaces = { " + strings.Join(lines, ", ") + " } in the destination, or --tablespace NAME=DIRECTORY",
	}
}

// tablespaceKey is what a mapping calls a tablespace: its name, or its number where that is not known.
func tablespaceKey(t state.BackupTablespace) string {
	if t.Name != "" {
		return t.Name
	}
	return strconv.FormatUint(uint64(t.OID), 10)
}

// hclKey quotes a key of an object where HCL needs that.
func hclKey(s string) string {
	plain := strings.IndexFunc(s, func(c rune) bool {
		return c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9')
	}) < 0
	if plain && (s[0] < '0' || s[0] > '9') {
		return s
	}
	return strconv.Quote(s)
}

// mappedTo finds the directory that a destination gives a tablespace, by name, number or original location, as the
// restore will.
func mappedTo(d hclspec.Destination, t state.BackupTablespace) (string, bool) {
	keys := []string{t.Name, strconv.FormatUint(uint64(t.OID), 10), t.Location}
	if t.Name == "" {
		keys = append(keys, filepath.Base(t.Location))
	}
	for _, key := range keys {
		if dir, ok := d.Tablespaces[key]; ok && key != "" {
			return dir, true
		}
	}
	return "", false
}

// space compares free bytes with what is restored: each tablespace at its target, the rest and copied WAL in the data
// directory.
func (b *builder) space(r *Route, d state.Destination) *refusal {
	if r.Destination.Overwrite && !d.Empty || len(r.Destination.Databases) > 0 {
		return nil // how much of it stays, or is left out, is seen by whoever restores
	}
	need := b.spaceNeeded(r, d)
	for _, p := range sortedNames(need) {
		if free, ok := d.Free[p]; ok && free < need[p] {
			return &refusal{state.CodeDestination, fmt.Sprintf("%s has %s free and %s are restored into it", p, Size(free), Size(need[p])), "choose a larger disk, or map a tablespace elsewhere"}
		}
	}
	return nil
}

// spaceNeeded gives the bytes that are restored, by directory.
func (b *builder) spaceNeeded(r *Route, d state.Destination) map[string]int64 {
	path := r.Destination.Path
	need := map[string]int64{path: r.DataBytes}
	for _, t := range b.tablespaces(r, d) {
		if dir, ok := mappedTo(r.Destination, t); ok {
			size := min(t.Bytes, need[path])
			need[path] -= size
			need[dir] += size
		}
	}
	if r.Destination.WAL == "copy" {
		need[path] += r.WALBytes
	}
	return need
}

// tablespaces gives those of the backup, or those that the server has now where the backup was not looked at.
func (b *builder) tablespaces(r *Route, d state.Destination) []state.BackupTablespace {
	if of, ok := d.Tablespaces[r.Backup]; ok {
		return of
	}
	var out []state.BackupTablespace
	for _, t := range b.seen.Servers[r.Server].Tablespaces {
		out = append(out, state.BackupTablespace{OID: t.OID, Name: t.Name, Location: t.Location, Bytes: t.Size})
	}
	return out
}

// raisedSettings says what becomes of the settings that PostgreSQL refuses to start a recovery with when they are below
// those of the server that wrote the WAL.
func (b *builder) raisedSettings(server string) string {
	names := []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"}
	var has []string
	for _, name := range names {
		if v, ok := b.seen.Servers[server].Settings[name]; ok {
			has = append(has, name+" = "+v)
		}
	}
	text := strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are raised to what the WAL asks for, or PostgreSQL would not start"
	if len(has) > 0 {
		text += " (" + server + " has " + strings.Join(has, ", ") + " now)"
	}
	return text
}

package recovery

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state/repository"
	"github.com/pgkeep/pgkeep/state/repository/store/file"
)

// hostileCase is something that the contents of a repository may say.
type hostileCase struct {
	name     string
	harmless bool // it may be restored: it stays inside
	forge    func(h *forger)
}

// TestHostileRepository restores what somebody has put into the repository who can write there and knows the format. Whatever it
// says, nothing outside the destination is touched, nothing in it is a link to elsewhere or gains rights, and it ends.
func TestHostileRepository(t *testing.T) {
	w := newWorld(t, 15, nil)
	w.commit(1)
	backup := w.take()
	w.commit(2)
	w.archive(1)
	target := hclspec.Target{Latest: true}
	route := w.route(target, w.target(target), backup)
	giveToServer(t, w.dir)
	cases := slices.Concat(hostileNames(), hostileLinks(), hostileSizes(), hostileFolders(w), hostileObjects(), hostileWAL())
	if len(cases) < 64 {
		t.Errorf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { w.restoreHostile(t, c, route) })
	}
}

func (w *world) restoreHostile(t *testing.T, c hostileCase, route plan.Route) {
	top := t.TempDir()
	h := &forger{t: t, oid: w.SQL(t, "select oid from pg_tablespace where spcname = 'fast'"), outside: filepath.Join(top, "outside"), dir: filepath.Join(top, "repo")}
	precious(t, h.outside)
	cloned(t, w.dir, h.dir)
	cluster := filepath.Join(h.dir, "c", name, w.systemID)
	h.backup, h.wal = filepath.Join(cluster, "b", route.Backup), filepath.Join(cluster, "w")
	c.forge(h)
	inside := filepath.Join(top, "inside")
	check(t, os.Mkdir(inside, 0o700))
	giveToServer(t, top)
	before := tree(t, top, inside)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := w.restoreFrom(ctx, h, inside, route)
	if after := tree(t, top, inside); after != before {
		t.Errorf("outside the destination it was\n%s\nand is\n%s", before, after)
	}
	if (err == nil) != c.harmless {
		t.Errorf("%v", err)
	}
	if ctx.Err() != nil {
		t.Error("it does not end")
	}
	noEscapes(t, inside)
	for name, value := range parseSettings(contentOf(t, filepath.Join(inside, "data", mainConf))) {
		if strings.Contains(value, "evil") {
			t.Errorf("%s = %s", name, value)
		}
	}
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return b
}

func (w *world) restoreFrom(ctx context.Context, h *forger, inside string, route plan.Route) error {
	st, err := file.Open(h.dir, file.Options{})
	if err != nil {
		return err
	}
	repo, err := repository.Open(ctx, st)
	if err != nil {
		return err
	}
	reader, err := repo.Cluster(name, w.systemID).OpenBackup(ctx, route.Backup)
	if err != nil {
		return err
	}
	route.Destination.Path, route.Destination.WAL = filepath.Join(inside, "data"), "copy"
	route.Destination.Tablespaces = map[string]string{h.oid: filepath.Join(inside, "fast")}
	_, err = Restore(ctx, Options{Route: route, Backup: reader, Places: []Place{{Label: "main", Path: h.dir}}, Program: w.program, Now: time.Now})
	return err
}

// noEscapes looks that nothing that was restored is a link to elsewhere, has special rights or is anything but a file or directory.
func noEscapes(t *testing.T, inside string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(tree(t, inside, "")), "\n") {
		path, rest, _ := strings.Cut(strings.TrimPrefix(line, inside), " ")
		mode, to, _ := strings.Cut(rest, " ")
		switch {
		case strings.HasPrefix(mode, "L") && filepath.Dir(path) == "/data/pg_tblspc" && to == filepath.Join(inside, "fast"):
		case strings.ContainsAny(mode[:len(mode)-9], "Lpcugts"), strings.HasSuffix(mode, "w-"), strings.HasSuffix(mode, "x") && !strings.HasPrefix(mode, "d"):
			t.Errorf("%s", line)
		}
	}
	for _, made := range []string{"/escaped", "/tmp/escaped"} {
		if _, err := os.Lstat(made); err == nil {
			t.Errorf("%s was made", made)
		}
	}
}

func hostileNames() []hostileCase {
	named := func(what, p string, harmless bool) hostileCase {
		return hostileCase{"name " + what, harmless, func(h *forger) {
			p := strings.ReplaceAll(p, "OUTSIDE", h.outside)
			h.add(member{"p": p})
		}}
	}
	coded := func(what, p string, harmless bool) hostileCase {
		return hostileCase{"bytes " + what, harmless, func(h *forger) { h.add(member{"ph": hex.EncodeToString([]byte(p))}) }}
	}
	return []hostileCase{
		named("up", "../escaped", false),
		named("far up", strings.Repeat("../", 40)+"tmp/escaped", false),
		named("down and up", "base/../../escaped", false),
		named("up at the end", "base/..", false),
		named("is up", "..", false),
		named("is here", ".", false),
		named("empty", "", false),
		named("absolute", "/escaped", false),
		named("absolute elsewhere", "OUTSIDE/precious", false),
		named("with here", "base/./escaped", false),
		named("two slashes", "base//escaped", false),
		named("slash at the end", "escaped/", false),
		named("NUL", "escaped\x00.txt", false),
		named("newline", "a\nb", false),
		named("delete", "a\x7fb", false),
		named("very long", strings.Repeat("a/", 2500)+"b", false),
		named("long part", strings.Repeat("a", 300), false),
		named("backslashes", `..\..\escaped`, true),
		named("dots that are none", "\u2025", true),
		named("in no directory", "no/such/directory", false),
		named("below a file", "PG_VERSION/escaped", false),
		named("a directory's", "base", false),
		named("case", "pg_version", true),
		named("case of pg_control", "global/PG_CONTROL", true),
		coded("up", "../escaped", false),
		coded("NUL", "escaped\x00", false),
		coded("not UTF-8", "..\xff", true),
		{"bytes that are none", false, func(h *forger) { h.add(member{"ph": "2e2e2"}) }},
		{"twice", false, func(h *forger) {
			h.add(member{"p": "twice", "c": "00000000", "s": 0, "x": []any{}}, member{"p": "twice"}, member{"p": "twice", "t": "d"})
		}},
		{"the state directory's", false, func(h *forger) { h.add(member{"p": "../data.pgkeep/route.json"}) }},
	}
}

func hostileLinks() []hostileCase {
	linked := func(what, p, to string, harmless bool, then ...member) hostileCase {
		return hostileCase{"link " + what, harmless, func(h *forger) {
			to := strings.ReplaceAll(to, "OUTSIDE", h.outside)
			h.add(append([]member{{"p": p, "t": "l", "l": to}}, then...)...)
		}}
	}
	return []hostileCase{
		linked("and a file through it", "x", "OUTSIDE", false, member{"p": "x/escaped"}),
		linked("over a directory", "base", "OUTSIDE", true),
		linked("of the WAL", "pg_wal", "OUTSIDE", true, member{"p": "pg_wal/escaped"}),
		linked("as a tablespace", "pg_tblspc/99999", "OUTSIDE", true),
		linked("as a tablespace and a file through it", "pg_tblspc/99999", "OUTSIDE", false, member{"p": "pg_tblspc/99999/escaped"}),
		linked("as configuration", "postgresql.auto.conf", "OUTSIDE/precious", true),
		linked("as recovery.signal", "recovery.signal", "OUTSIDE/precious", true),
		linked("as pg_control", "global/pg_control", "OUTSIDE/precious", true),
		linked("to itself", "loop", "loop", true),
		linked("with a NUL", "x", "OUTSIDE\x00", true),
		{"link in a tablespace", false, func(h *forger) {
			h.add(member{"d": json.Number(h.oid), "p": "x", "t": "l", "l": h.outside})
		}},
		{"file that was a link", true, func(h *forger) { // of which the type alone is changed
			h.list(func(shard map[string]any) {
				for _, m := range shard["members"].([]any) {
					if x := m.(member); x["t"] == "l" {
						x["l"] = h.outside
					}
				}
			})
		}},
		{"pipe", false, func(h *forger) { h.add(member{"p": "pipe", "t": "p"}) }},
		{"device", false, func(h *forger) { h.add(member{"p": "sda", "t": "b"}) }},
		{"no type", false, func(h *forger) { h.add(member{"p": "x", "t": ""}) }},
		{"rights", true, func(h *forger) { h.set(member{"m": 0o6777}) }},
		{"rights of a directory", true, func(h *forger) {
			h.add(member{"p": "rights", "t": "d", "m": 0o7777}, member{"p": "rights/less", "t": "d", "m": 0})
		}},
		{"tablespace_map", true, func(h *forger) { h.add(member{"p": "tablespace_map"}) }},
		{"standby.signal", true, func(h *forger) { h.add(member{"p": "standby.signal"}) }},
	}
}

func hostileSizes() []hostileCase {
	size := func(what string, changes member) hostileCase {
		return hostileCase{"size " + what, false, func(h *forger) { h.set(changes) }}
	}
	frame := func(what string, changes map[string]any) hostileCase {
		return hostileCase{"frame " + what, false, func(h *forger) { h.frame(changes) }}
	}
	decided := func(what string, harmless bool, changes map[string]any) hostileCase {
		return hostileCase{"count " + what, harmless, func(h *forger) {
			h.decision(func(c map[string]any) {
				for k, v := range changes {
					c[k] = v
				}
			})
		}}
	}
	return []hostileCase{
		size("negative", member{"s": -1}),
		size("smaller", member{"s": 1}),
		size("giant", member{"s": int64(1) << 62}),
		size("giant without extents", member{"s": int64(1) << 62, "x": []any{}}),
		size("of an extent that is giant", member{"s": int64(1) << 40, "x": []any{[]any{0, 0, int64(1) << 40}}}),
		size("of an extent that is negative", member{"s": -3, "x": []any{[]any{0, 0, -3}}}),
		size("before the frame", member{"x": []any{[]any{0, -1, 3}}}),
		size("of a frame that is not there", member{"x": []any{[]any{1 << 30, 0, 3}}}),
		size("of another's checksum", member{"c": "00000000"}),
		frame("giant", map[string]any{"r": int64(1) << 40}),
		frame("raw is less", map[string]any{"r": 512}),
		frame("stored giant", map[string]any{"s": int64(1) << 40}),
		frame("stored negative", map[string]any{"s": -1}),
		frame("behind the volume", map[string]any{"o": int64(1) << 33}),
		frame("of volume -1", map[string]any{"v": -1}),
		frame("of volume 1e9", map[string]any{"v": int64(1e9)}),
		frame("of no other", map[string]any{"b": 7}),
		{"frame of a path", false, func(h *forger) {
			h.list(func(shard map[string]any) { shard["others"] = []any{"../../../../outside"} })
			h.frame(map[string]any{"b": 1})
		}},
		decided("of lists", false, map[string]any{"file_shards": int64(2e9)}),
		decided("of lists, negative", false, map[string]any{"file_shards": -1}),
		decided("of hashes and pieces", true, map[string]any{"hash_shards": int64(2e9), "manifest_pieces": int64(2e9)}),
		decided("of files and bytes", true, map[string]any{"files": int64(1) << 62, "data_bytes": -5}),
		decided("of sums", false, map[string]any{"sums": []any{map[string]any{"size": int64(1) << 62, "sha256": strings.Repeat("0", 64)}}}),
	}
}

func hostileFolders(w *world) []hostileCase {
	changed := func(what string, harmless bool, changes map[string]any) hostileCase {
		return hostileCase{"folder " + what, harmless, func(h *forger) {
			h.folders(func(folders []any) []any {
				for _, f := range folders {
					if x := f.(map[string]any); x["location"] != nil {
						for k, v := range changes {
							x[k] = v
						}
					}
				}
				return folders
			})
		}}
	}
	added := func(what string, harmless bool, folder map[string]any) hostileCase {
		return hostileCase{"folder " + what, harmless, func(h *forger) {
			h.folders(func(folders []any) []any { return append(folders, folder) })
		}}
	}
	return []hostileCase{
		changed("at the root", true, map[string]any{"location": "/"}),
		changed("of the origin", true, map[string]any{"location": w.DataDir}),
		changed("up", true, map[string]any{"location": "../../outside"}),
		changed("newline", true, map[string]any{"location": "/x\n/y"}),
		changed("of another number", false, map[string]any{"oid": 4711}),
		changed("negative", true, map[string]any{"volumes": -1, "bytes": -1}),
		changed("giant", false, map[string]any{"bytes": int64(1) << 60}),
		added("that nobody maps", false, map[string]any{"oid": 4711, "location": w.DataDir, "volumes": 0, "bytes": 0}),
		added("twice the data directory", true, map[string]any{"oid": 0, "location": w.DataDir, "volumes": 0, "bytes": 0}),
		{"folder unknown", false, func(h *forger) { h.add(member{"d": 4712, "p": "x"}) }},
		{"folder up", false, func(h *forger) { h.add(member{"d": json.Number(h.oid), "p": "../escaped"}) }},
		{"folder of none", false, func(h *forger) { h.folders(func([]any) []any { return nil }) }},
	}
}

// hostileObjects are not what an object is: the repository is a directory to which somebody else writes.
func hostileObjects() []hostileCase {
	list := func(h *forger) string { return filepath.Join(h.backup, "files", "000000") }
	return []hostileCase{
		{"list is a link", false, func(h *forger) {
			check(h.t, os.Remove(list(h)))
			check(h.t, os.Symlink(filepath.Join(h.outside, "precious"), list(h)))
		}},
		{"list is a directory", false, func(h *forger) {
			check(h.t, os.Remove(list(h)))
			check(h.t, os.Mkdir(list(h), 0o700))
		}},
		{"list is a pipe", false, func(h *forger) {
			check(h.t, os.Remove(list(h)))
			check(h.t, syscall.Mkfifo(list(h), 0o600))
		}},
		{"list is cut", false, func(h *forger) { h.framed("files/000000", func(b []byte) []byte { return b[:len(b)/2] }) }},
		{"label of another place", false, func(h *forger) {
			h.framed("backup_manifest/backup_label", func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("START WAL LOCATION: "), []byte("START WAL LOCATION: F"))
			})
		}},
		{"label of another timeline", false, func(h *forger) {
			h.framed("backup_manifest/backup_label", func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("START TIMELINE: 1"), []byte("START TIMELINE: 9"))
			})
		}},
		{"settings that add others", true, func(h *forger) {
			h.put("backup_manifest/captured.json", h.frameOf([]byte(`{"settings": [
				{"name": "port = 5432\nlocal_preload_libraries = 'evil'\n#", "value": "'; touch /tmp/escaped"}, {"name": "work_mem", "value": "5MB' # \n x = y"}
			]}`)))
			h.list(func(shard map[string]any) {
				shard["members"] = slices.DeleteFunc(shard["members"].([]any), func(m any) bool { return m.(member)["p"] == mainConf })
			})
		}},
	}
}

func hostileWAL() []hostileCase {
	last := func(h *forger) string { return slices.Max(h.segments()) }
	return []hostileCase{
		{"segment of another place", false, func(h *forger) {
			all := h.segments()
			b, err := os.ReadFile(all[len(all)-2])
			check(h.t, err)
			h.replace(last(h), b)
		}},
		{"segment is a link", false, func(h *forger) {
			path := last(h)
			check(h.t, os.Remove(path))
			check(h.t, os.Symlink(filepath.Join(h.outside, "precious"), path))
		}},
		{"segment is a pipe", false, func(h *forger) {
			path := last(h)
			check(h.t, os.Remove(path))
			check(h.t, syscall.Mkfifo(path, 0o600))
		}},
		{"segment is empty", false, func(h *forger) { h.replace(last(h), nil) }},
		{"history that is none", false, func(h *forger) {
			check(h.t, os.MkdirAll(filepath.Join(h.wal, "history"), 0o700))
			check(h.t, os.WriteFile(filepath.Join(h.wal, "history", "00000002"), []byte("1\t../../x\t'\n"), 0o600))
		}},
	}
}

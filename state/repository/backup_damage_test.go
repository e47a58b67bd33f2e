package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

// TestEveryDamageIsFound damages every object of a backup in every way of the corruption grid: full verification names
// the object, quick verification what sizes tell, and a read either gives the right bytes or fails.
func TestEveryDamageIsFound(t *testing.T) {
	base := newMemory()
	members := randomMembers(rand.New(rand.NewPCG(5, 5)), 14, 60_000)
	full, child := testIntent(1), childIntent(2, testIntent(1).ID)
	takeBackup(t, full, seal.Codec{}, members, 1000, testCluster(base))
	page := must(referBackup(t, testCluster(base), child))(t)
	check(t, testCluster(base).Hold(t.Context(), full.ID, state.Hold{Reason: "audit"}, testNow))
	other := newMemory()
	takeBackup(t, testIntent(9), seal.Codec{Algorithm: seal.LZ4}, randomMembers(rand.New(rand.NewPCG(8, 8)), 14, 60_000), 1000, testCluster(other))
	want := map[string][]byte{}
	for _, m := range members {
		if m.Type == RegularFile {
			want[m.Path] = slices.Clone(m.data)
			if len(m.data) >= pageSize {
				copy(want[m.Path], page)
			}
		}
	}
	found := 0
	for _, key := range base.keys() {
		for name, damage := range backupDamages(key, base, other) {
			for seed := range uint64(rounds(t, 2)) {
				damaged := &memory{objects: maps.Clone(base.objects)}
				damage(rand.New(rand.NewPCG(seed, 3)), damaged.objects)
				if maps.EqualFunc(base.objects, damaged.objects, bytes.Equal) {
					continue
				}
				if name == "delete" && strings.Contains(key, holdPrefix) {
					continue // nothing names the last HOLD
				}
				found++
				if !verifyNames(t, damaged, key, full.ID, child.ID) {
					t.Errorf("%s, %s, seed %d: not found", key, name, seed)
				}
				readOrRefuse(t, damaged, child.ID, want)
			}
		}
	}
	t.Logf("%d damages", found)
}

// backupDamages are the operations of the grid on one object.
func backupDamages(key string, base, other *memory) map[string]func(*rand.Rand, map[string][]byte) {
	body := base.objects[key]
	set := func(b []byte) func(*rand.Rand, map[string][]byte) {
		return func(_ *rand.Rand, o map[string][]byte) { o[key] = b }
	}
	return map[string]func(*rand.Rand, map[string][]byte){
		"flip a bit": func(r *rand.Rand, o map[string][]byte) {
			b := slices.Clone(body)
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			o[key] = b
		},
		"zero a stretch": func(r *rand.Rand, o map[string][]byte) {
			b := slices.Clone(body)
			at := r.IntN(len(b))
			clear(b[at:min(len(b), at+4096)])
			o[key] = b
		},
		"cut one byte": set(body[:len(body)-1]),
		"cut in half":  set(body[:len(body)/2]),
		"cut to none":  set(nil),
		"append":       set(append(slices.Clone(body), 0)),
		"delete":       func(_ *rand.Rand, o map[string][]byte) { delete(o, key) },
		"swap with another backup's": func(_ *rand.Rand, o map[string][]byte) {
			name := key[strings.Index(key, "/b/")+len("/b/"):]
			name = name[strings.Index(name, "/"):]
			for k, b := range other.objects {
				if strings.HasSuffix(k, name) {
					o[key] = b
				}
			}
		},
		"swap with a neighbour": func(_ *rand.Rand, o map[string][]byte) {
			for k, b := range base.objects {
				if k != key && filepath.Dir(k) == filepath.Dir(key) {
					o[key] = b
					return
				}
			}
		},
		"another object beside it": func(_ *rand.Rand, o map[string][]byte) { o[key+"~"] = body },
	}
}

// verifyNames runs full verification of both backups and tells whether something is found that is about this object.
func verifyNames(t *testing.T, m *memory, key string, ids ...string) bool {
	t.Helper()
	named := false
	for _, id := range ids {
		err := testCluster(m).VerifyBackup(t.Context(), id, true, func(f Finding) {
			named = named || strings.HasPrefix(f.Object, key) || strings.HasPrefix(key, f.Object)
			if f.Code == "" || f.Text == "" {
				t.Errorf("an empty finding %+v", f)
			}
		})
		if err != nil {
			t.Errorf("verify %s: %v", id, err)
		}
	}
	return named
}

// readOrRefuse reads a backup of a damaged repository: right bytes, or an error.
func readOrRefuse(t *testing.T, m *memory, id string, want map[string][]byte) {
	t.Helper()
	b, err := testCluster(m).OpenBackup(t.Context(), id)
	if err != nil {
		return
	}
	err = b.Pieces(t.Context(), PieceOptions{Workers: 1}, func(p Piece) error {
		if !bytes.Equal(want[p.File.Path][p.Offset:p.Offset+int64(len(p.Data))], p.Data) {
			t.Errorf("wrong bytes of %s", p.File.Path)
		}
		return nil
	})
	if err != nil && state.CodeOf(err) != state.CodeCorrupt {
		t.Errorf("an error without its code: %v", err)
	}
}

func TestVerifySaysWhatItCannotRead(t *testing.T) {
	m := newMemory()
	c := testCluster(m)
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 4, 60_000), 1000, c)
	m.step = func(call string) (error, error) {
		if strings.HasPrefix(call, "get ") && strings.Contains(call, "/v/base/000000") {
			return errors.New("permission denied"), nil
		}
		return nil, nil
	}
	var got []string
	check(t, c.VerifyBackup(t.Context(), testIntent(1).ID, true, func(f Finding) { got = append(got, fmt.Sprint(f.Code, " ", f.Object)) }))
	if len(got) != 1 || !strings.HasPrefix(got[0], string(state.CodeIO)) {
		t.Errorf("found %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.VerifyBackup(ctx, testIntent(1).ID, true, func(f Finding) { t.Errorf("%+v", f) }); err == nil {
		t.Error("an interrupted look found nothing and said so")
	}
}

func TestPiecesInAHundredKilobytes(t *testing.T) {
	c := testCluster(newMemory())
	takeBackup(t, testIntent(1), seal.Codec{}, randomMembers(rand.New(rand.NewPCG(5, 5)), 40, 600_000), 100_000, c)
	b := must(c.OpenBackup(t.Context(), testIntent(1).ID))(t)
	var n int64
	check(t, b.Pieces(t.Context(), PieceOptions{Workers: 3, Budget: NewBudget(1)}, func(p Piece) error { return nil }))
	want := func(f *File) bool { return strings.HasPrefix(f.Path, "base/1/") }
	check(t, b.Pieces(t.Context(), PieceOptions{Workers: 1, Want: want}, func(p Piece) error {
		if !want(p.File) {
			t.Errorf("%s was not wanted", p.File.Path)
		}
		n += int64(len(p.Data))
		return nil
	}))
	if n == 0 {
		t.Error("nothing read")
	}
	stop := errors.New("enough")
	if err := b.Pieces(t.Context(), PieceOptions{}, func(Piece) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

// TestWriterLock: a lock says something only of a writer of the same host, machine and directory.
func TestWriterLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	c := testCluster(newMemory())
	id := testIntent(1).ID
	ask := LockedWriters(dir, "backup1", "m1")
	us := func() Writer { return Writer{Host: "backup1", Machine: "m1", Lock: LockPlace(dir)} }
	expect := func(what string, w Writer, want Liveness) {
		t.Helper()
		if got, evidence := ask(w, c.key, id); got != want || (evidence == "") != (want == WriterUnknown) {
			t.Errorf("%s: %q (%s), want %q", what, got, evidence, want)
		}
	}
	expect("without a directory", us(), WriterUnknown)
	l := must(c.LockBackup(dir, id))(t)
	expect("held", us(), WriterAlive)
	held := us()
	for what, w := range map[string]Writer{
		"another host":               {Host: "elsewhere", Machine: "m1", Lock: held.Lock},
		"another machine":            {Host: "backup1", Machine: "m2", Lock: held.Lock},
		"another directory":          {Host: "backup1", Machine: "m1", Lock: held.Lock + "0"},
		"a START that does not tell": {Host: "backup1"},
	} {
		expect(what, w, WriterUnknown)
	}
	if got, _ := LockedWriters(dir, "backup1", "")(Writer{Host: "backup1", Lock: held.Lock}, c.key, id); got != WriterUnknown {
		t.Errorf("machines without identity are one: %s", got)
	}
	if _, err := c.LockBackup(dir, id); state.CodeOf(err) != state.CodeLocked {
		t.Errorf("twice: %v", err)
	}
	check(t, l.lock.Close()) // as a kill does: the file stays
	expect("killed", us(), WriterKilled)
	check(t, must(c.LockBackup(dir, id))(t).Unlock())
	expect("ended", us(), WriterEnded)
	check(t, os.Rename(dir, dir+"-before"))
	check(t, os.Mkdir(dir, 0o700))
	expect("a directory that was made again", held, WriterUnknown)
}

func FuzzDecoders(f *testing.F) {
	m := newMemory()
	c := testCluster(m)
	w := must(c.BeginBackup(f.Context(), testIntent(1)))(f)
	s := must(NewBackupStream(f.Context(), []*BackupWriter{w}, StreamOptions{}))(f)
	writeFolder(f, s.Folder(0, ""), randomMembers(rand.New(rand.NewPCG(5, 5)), 6, 20_000), 1000)
	must(s.Commit(f.Context(), commitFacts()))(f)
	d := must(seal.NewDeframer())(f)
	defer d.Close()
	for key, body := range m.objects {
		f.Add(body)
		if raw, err := d.Frame(nil, body, maxShard); err == nil && strings.Contains(key, "0") {
			f.Add(raw)
		}
	}
	f.Add(seekTable{frames: []frameAt{{stored: 10, raw: 20, sum: 3}}}.encode())
	id := testIntent(1).ID
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Start
		_ = decodeRecord(b, &r)
		_ = parseSums(b, func(l sumLine) error {
			_, _, _ = splitReference(l.name)
			return nil
		})
		if files, err := decodeFileShard(b, id, 0); err == nil {
			for _, f := range files {
				if CheckPath(f.Path) != nil {
					t.Fatalf("path %q", f.Path)
				}
			}
			planReads(files, PieceOptions{})
		}
		_, _, _ = decodeHashShard(b, id, 0)
		if table, err := volumeTable(b); err == nil && !bytes.Contains(b, table.encode()) {
			t.Fatal("a seek table that does not encode to itself")
		}
	})
}

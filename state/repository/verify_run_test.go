package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
	"github.com/pgkeep/pgkeep/state/wal"
)

// ticking is a clock that goes on by a second whenever it is asked.
func ticking() func() time.Time {
	var mu sync.Mutex
	at := testNow
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Second)
		return at
	}
}

// reads counts the objects of a kind that are read, and does then when some were.
func reads(m *memory, part string, after int, then func()) func() map[string]int {
	var mu sync.Mutex
	seen, n := map[string]int{}, 0
	m.step = func(call string) (error, error) {
		mu.Lock()
		defer mu.Unlock()
		if key, ok := strings.CutPrefix(call, "get "); ok && strings.Contains(key, part) {
			seen[key]++
			if n++; n == after && then != nil {
				then()
			}
		}
		return nil, nil
	}
	return func() map[string]int { mu.Lock(); defer mu.Unlock(); return maps.Clone(seen) }
}

// TestVerifyGoesOn: a look that was broken off at any moment goes on where it was: what was read and noted is not read
// again, everything is read once in the end, and the result is that of one look.
func TestVerifyGoesOn(t *testing.T) {
	base := newMemory()
	c := newArchive(t, base, mib)
	for n := uint64(4); n < 12; n++ {
		seg := wal.Segment{Timeline: 1, Number: n}
		check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))))
	}
	check(t, c.WriteIndex(t.Context(), 1))
	for n := 1; n <= 2; n++ {
		in, random := testIntent(n), rand.New(rand.NewPCG(uint64(n), 7))
		in.Start, in.Redo = 0x500028, 0x500028
		var members []member
		for i := range 12 {
			m := member{Member: Member{Path: fmt.Sprintf("base/1/%d", i), Type: RegularFile, Mode: 0o600, Size: 2 << 20}, data: make([]byte, 2<<20)}
			for j := range m.data {
				m.data[j] = byte(random.Uint32())
			}
			members = append(members, m)
		}
		gridBackup(t, in, seal.Codec{}, members, c)
	}
	for _, part := range []string{"/v/base/", "/w/0"} {
		for after := 1; after <= 5; after += 2 {
			m := &memory{objects: maps.Clone(base.objects)}
			c := must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
			now := ticking()
			o := VerifyOptions{Level: state.VerifyFull, Every: time.Nanosecond, Now: now, step: 1}
			ctx, cancel := context.WithCancel(t.Context())
			first := reads(m, part, after, cancel)
			if _, err := c.Examine(ctx, o); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s after %d: %v", part, after, err)
			}
			had := first()
			m.step = nil
			noted := must(c.Verified(t.Context()))(t)
			then := reads(m, part, 0, nil)
			v := must(c.Examine(t.Context(), o))(t)
			if v.Wrong != 0 || v.Full.Began.IsZero() || v.Cursor != nil {
				t.Errorf("%s after %d: %+v", part, after, v)
			}
			if noted != nil && !v.Began.Equal(noted.Began) {
				t.Errorf("%s after %d: it began anew at %s", part, after, v.Began)
			}
			again := 0
			for key := range then() {
				if had[key] > 0 {
					again++
				}
			}
			if again > 1 {
				t.Errorf("%s after %d: %d of %d objects are read again", part, after, again, len(had))
			}
			for key := range base.objects {
				if strings.Contains(key, part) && had[key]+then()[key] == 0 {
					t.Errorf("%s after %d: %s was never read", part, after, key)
				}
			}
		}
	}
}

// TestVerifySkipsWhatWasReadLately: a backup that was read whole is not read again within max_age, and a sample reads a part.
func TestVerifySkipsWhatWasReadLately(t *testing.T) {
	m := fillGrid(t, seal.Codec{}, 0)
	c := must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
	o := VerifyOptions{Level: state.VerifyFull, Now: ticking()}
	all := reads(m, "/v/base/", 0, nil)
	must(c.Examine(t.Context(), o))(t)
	whole := len(all())
	o.MaxAge = time.Hour
	none := reads(m, "/v/base/", 0, nil)
	must(c.Examine(t.Context(), o))(t)
	if whole == 0 || len(none()) != 0 {
		t.Errorf("%d volumes are read, and then %d again", whole, len(none()))
	}
	for key, n := range all() {
		if n != 1 {
			t.Errorf("%s is read %d times in one look", key, n)
		}
	}
	o.MaxAge, o.Sample = 0, 50
	some := reads(m, "/", 0, nil)
	v := must(c.Examine(t.Context(), o))(t)
	if v.Full.Sample != 50 {
		t.Errorf("a sample is kept as %+v", v.Full)
	}
	volumes := 0
	for key := range some() {
		if strings.Contains(key, "/v/base/") {
			volumes++
		}
	}
	if volumes == whole && whole > 6 {
		t.Errorf("a sample of half reads all %d volumes", whole)
	}
}

// TestVerifyRemembersDamage: what a full look found, a quick one finds too, until it is mended.
func TestVerifyRemembersDamage(t *testing.T) {
	m := fillGrid(t, seal.Codec{}, 0)
	c := must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
	var key string
	for _, k := range m.keys() {
		if strings.Contains(k, "/v/base/") {
			key = k
			break
		}
	}
	sound := m.objects[key]
	hurt := bytes.Clone(sound)
	hurt[20] ^= 4
	m.objects[key] = hurt
	now := ticking()
	look := func(level state.VerifyLevel, only ...string) state.Verification {
		return must(c.Examine(t.Context(), VerifyOptions{Level: level, Now: now, Backups: only}))(t)
	}
	if v := look(state.VerifyQuick); v.Wrong != 0 {
		t.Errorf("a quick look read volumes: %+v", v.Damage)
	}
	for _, v := range []state.Verification{look(state.VerifyFull), look(state.VerifyQuick), look(state.VerifyQuick, testIntent(2).ID)} {
		if v.Wrong != 1 || v.Damage[0].Object != key {
			t.Errorf("%s: %+v", v.Level, v.Damage)
		}
	}
	seen := must(must(OpenWith(t.Context(), m, suiteKeys()))(t).Observe(t.Context(), ObserveOptions{Keys: suiteKeys()}))(t)
	for _, b := range seen.Clusters[archiveName][0].Backups {
		if want := map[bool]state.BackupState{true: state.BackupCorrupt, false: state.BackupCommitted}[b.ID == testIntent(1).ID]; b.State != want {
			t.Errorf("%s is seen as %s", b.ID, b.State)
		}
	}
	m.objects[key] = sound
	if v := look(state.VerifyQuick); v.Wrong != 0 || !v.Backups[0].Restorable {
		t.Errorf("what was mended is still damaged: %+v", v.Damage)
	}
}

// TestVerifyInParts: a backup with more names than are held at a time is looked at in parts, and the same is found.
func TestVerifyInParts(t *testing.T) {
	base := fillGrid(t, seal.Codec{}, 0)
	random := rand.New(rand.NewPCG(1, 1))
	id := testIntent(1).ID
	for _, key := range base.keys() {
		if !strings.Contains(key, id) || strings.HasSuffix(key, decisionName) || random.IntN(2) == 0 {
			continue
		}
		m := &memory{objects: maps.Clone(base.objects)}
		m.objects[key] = append(bytes.Clone(m.objects[key]), 0)
		if random.IntN(2) == 0 {
			delete(m.objects, key)
		}
		c := testArchive(t, m)
		found := func(lines int64) []string {
			var out []string
			_, err := c.verifyBackup(t.Context(), id, &depth{full: true, lines: lines}, resume{}, func(f Finding) { out = append(out, f.Object+" "+f.Text) })
			check(t, err)
			slices.Sort(out)
			return slices.Compact(out)
		}
		if d := cmp.Diff(found(0), found(3)); d != "" {
			t.Errorf("%s: %s", key, d)
		}
	}
}

func testArchive(t *testing.T, m *memory) *Cluster {
	return must(OpenWith(t.Context(), m, suiteKeys()))(t).Cluster(archiveName, archiveID)
}

// TestVerifyHoldsLittle: as many names as are held at a time fit into a part of what a command may use.
func TestVerifyHoldsLittle(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	table := sumTable{parts: 1, lines: map[string]*tableLine{}}
	var shard []byte
	for n := range tableLines {
		shard = sumLine{name: volumeName(0, n), size: maxVolume}.appendTo(shard)
		if len(shard) > sumShardSize || n == tableLines-1 {
			check(t, table.fill(shard))
			shard = shard[:0]
		}
	}
	used := int64(heap() - before)
	t.Logf("%d names, of volumes of %d GiB as stored: %d MiB", len(table.lines), tableLines*int64(maxVolume)>>30, used>>20)
	if len(table.lines) != tableLines || used > 96<<20 {
		t.Errorf("%d names take %d bytes", len(table.lines), used)
	}
	runtime.KeepAlive(table)
}

// TestChainsFollowTimelines: a backup is carried over a promotion to the tip of the newest line; a segment that is missing
// ends that for every backup before it, and the moments that are lost are named.
func TestChainsFollowTimelines(t *testing.T) {
	m := newMemory()
	c := newArchive(t, m, mib)
	put := func(tli wal.Timeline, from, to uint64) {
		for n := from; n <= to; n++ {
			seg := wal.Segment{Timeline: tli, Number: n}
			check(t, c.PutSegment(t.Context(), seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib))))
		}
	}
	put(1, 4, 9)
	check(t, c.PutHistory(t.Context(), 2, []byte("1\t0/800100\tpromoted\n")))
	put(2, 8, 14)
	check(t, c.WriteIndex(t.Context(), 1))
	check(t, c.WriteIndex(t.Context(), 2))
	for n := 1; n <= 2; n++ {
		in := testIntent(n)
		in.Start = wal.LSN(4+n)<<20 + 0x28
		in.Redo = in.Start
		gridBackup(t, in, seal.Codec{}, gridMembers(uint64(n)), c)
	}
	now := ticking()
	look := func() state.Verification {
		return must(testArchive(t, m).Examine(t.Context(), VerifyOptions{Level: state.VerifyQuick, Now: now}))(t)
	}
	v := look()
	for _, chain := range v.Chains {
		if !chain.Whole() || chain.Timeline != 2 || chain.Reaches != 0xF00000 {
			t.Errorf("%+v", chain)
		}
	}
	if v.Wrong != 0 || len(v.Chains) != 2 {
		t.Errorf("%+v", v)
	}
	lost := c.key.segmentFile(wal.Segment{Timeline: 2, Number: 11}, mib)
	delete(m.objects, lost)
	v = look()
	for _, chain := range v.Chains {
		if chain.Whole() || chain.Reaches != 0xB00000 || chain.Tip != 0xF00000 {
			t.Errorf("%+v", chain)
		}
	}
	if v.Wrong != 1 || v.Damage[0].Object != lost || len(v.Damage[0].Hurts) != 0 || len(v.Damage[0].Lost) != 1 || v.Damage[0].Lost[0].FromLSN != 0xB00000 {
		t.Errorf("%+v", v.Damage)
	}
	for _, key := range m.keys() { // without an index nothing names it: the hole after the newest backup tells
		if strings.Contains(key, "/wx/") {
			delete(m.objects, key)
		}
	}
	if v = look(); v.Wrong != 1 || v.Damage[0].Code != state.CodeGap {
		t.Errorf("%+v", v.Damage)
	}
	check(t, c.RecordGap(t.Context(), state.Gap{Range: wal.Range{Timeline: 2, From: 0xB00000, To: 0xC00000}, Reason: "known"}))
	if v = look(); v.Wrong != 0 || !v.Chains[0].Recorded {
		t.Errorf("a recorded gap is no damage: %+v %+v", v.Damage, v.Chains)
	}
}

// TestVerifyBesideWriters: WAL that is archived, indexed and pruned, and backups that are taken and removed between any two
// calls of verification to the store, are no damage.
func TestVerifyBesideWriters(t *testing.T) {
	for seed := range rounds(t, 2) {
		m := newMemory()
		l := &course{t: t, c: newArchive(t, m, mib), seed: seed, number: 4}
		for range 14 {
			l.next()
		}
		now := ticking()
		var acting sync.Mutex // what lives calls the store too
		calls, every := 0, 1+seed%5
		for range 4 {
			for _, level := range []state.VerifyLevel{state.VerifyQuick, state.VerifyFull} {
				calls = 0
				m.step = func(string) (error, error) {
					if acting.TryLock() {
						defer acting.Unlock()
						if calls++; calls%every == 0 && calls < 40*every {
							l.next()
						}
					}
					return nil, nil
				}
				v, err := testArchive(t, m).Examine(t.Context(), VerifyOptions{Level: level, Now: now})
				m.step = nil
				if err != nil || v.Wrong != 0 {
					t.Errorf("seed %d, %s: %v %+v", seed, level, err, v.Damage)
				}
			}
		}
	}
}

// course is what goes on in a repository beside a verification.
type course struct {
	t      *testing.T
	c      *Cluster
	seed   int
	number uint64 // of the next segment
	turn   int
	alive  []string
}

// next does one thing.
func (l *course) next() {
	ctx, turn := l.t.Context(), l.turn
	l.turn++
	seg := wal.Segment{Timeline: 1, Number: l.number}
	var err error
	switch turn % 7 {
	case 0:
		err = l.c.PutPartial(ctx, seg, seg.Start(mib)+8192, bytes.NewReader(plainSegment(seg, mib)))
	case 1, 3:
		err = l.c.PutSegment(ctx, seg, summaryOf(seg, mib), bytes.NewReader(plainSegment(seg, mib)))
		l.number++
	case 2:
		in := testIntent(int(l.number))
		in.Start = wal.Segment{Number: l.number - 1}.Start(mib) + 0x28
		in.Redo = in.Start
		err = livingBackup(l.t, l.c, in, l.seed)
		l.alive = append(l.alive, in.ID)
	case 4:
		err = l.c.WriteIndex(ctx, 1)
	case 5:
		if len(l.alive) > 2 {
			err = errors.Join(l.c.Tomb(ctx, l.alive[0], testNow), sweep(ctx, l.c, testNow.Add(48*time.Hour)))
			l.alive = l.alive[1:]
		}
	case 6:
		if len(l.alive) > 0 && l.number > 12 {
			_, err = l.c.DeleteWAL(ctx, []wal.Range{{Timeline: 1, From: 0, To: wal.Segment{Number: l.number - 8}.Start(mib)}})
		}
	}
	if err != nil {
		l.t.Errorf("turn %d: %v", turn, err)
	}
}

func sweep(ctx context.Context, c *Cluster, now time.Time) error {
	_, err := c.Sweep(ctx, now)
	return err
}

// livingBackup takes a small backup that ends in its first segment.
func livingBackup(t *testing.T, c *Cluster, in Intent, seed int) error {
	ctx := t.Context()
	w, err := c.BeginBackup(ctx, in)
	if err != nil {
		return err
	}
	s, err := NewBackupStream(ctx, []*BackupWriter{w}, StreamOptions{})
	if err != nil {
		return err
	}
	writeFolder(t, s.Folder(0, ""), randomMembers(rand.New(rand.NewPCG(uint64(seed), 3)), 4, 20_000), 1000)
	if err := errors.Join(s.EndData(), s.WriteManifest([]byte("{}\n")), s.Keep(Kept{BackupLabel: []byte("START WAL LOCATION")})); err != nil {
		return err
	}
	f := commitFacts()
	f.Stop, f.Ended = in.Start+0x1000, in.Now.Add(time.Minute)
	out, err := s.Commit(ctx, f)
	for _, o := range out {
		err = errors.Join(err, o.Err)
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

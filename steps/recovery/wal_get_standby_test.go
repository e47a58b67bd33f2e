package recovery

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgkeep/pgkeep/state/wal"
)

// downUntil gives a repository that does not answer before a moment.
func downUntil(back time.Time, f fake) *fake {
	f.down = func() error {
		if time.Now().Before(back) {
			return errDown
		}
		return nil
	}
	return &f
}

// TestAStandbyAsksWithoutEnd: in its route, whatever wal_wait is, and says so; behind it wal_wait long, and then it goes on by streaming.
func TestAStandbyAsksWithoutEnd(t *testing.T) {
	holds := fake{
		segments:  map[wal.Segment][]byte{seg(1, 3): full('a'), seg(2, 9): full('b')},
		histories: map[wal.Timeline]string{2: "1\t0/600000\tx\n", 3: "2\t0/700000\tx\n"},
	}
	for name, c := range map[string]struct {
		file   string
		want   int
		waited bool // until the repository was back, after a day
	}{
		"a segment of the route":       {seg(1, 3).Name(mib), ExitGot, true},
		"the history of its end":       {"00000002.history", ExitGot, true},
		"a segment behind the route":   {seg(2, 9).Name(mib), ExitAbsent, false},
		"a history behind the route":   {"00000003.history", ExitAbsent, false},
		"a segment of another history": {seg(1, 9).Name(mib), ExitAbsent, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, told := time.Now(), 0
				a := newAsked(t, downUntil(began.Add(24*time.Hour), holds))
				a.standby, a.waiting = true, func(error) { told++ }
				if got, err := a.get(c.file); got != c.want || c.waited != (err == nil) {
					t.Errorf("exit %d, %v", got, err)
				}
				waited := time.Since(began)
				if c.waited != (waited >= 24*time.Hour) || !c.waited && (waited < 40*time.Second || waited > 61*time.Second) {
					t.Errorf("after %s", waited)
				}
				if least, most := int(waited/(2*time.Minute)), int(waited/time.Minute)+1; told < max(least, 1) || told > most {
					t.Errorf("it was told %d times in %s", told, waited)
				}
			})
		})
	}
}

// TestAStandbyIsGivenTheWholeSegment: where its route ends in one, of which also a part lies in another repository and a padded one beside it.
func TestAStandbyIsGivenTheWholeSegment(t *testing.T) {
	padded := append(full('d')[:mib/2:mib/2], make([]byte, mib/2)...)
	for name, c := range map[string]struct {
		archives []*fake
		want     []byte
	}{
		"whole": {[]*fake{
			{partials: map[wal.Segment][]byte{seg(2, 7): full('d')[:mib/2]}}, {segments: map[wal.Segment][]byte{seg(2, 7): full('d')}},
		}, full('d')},
		"in part": {[]*fake{{partials: map[wal.Segment][]byte{seg(2, 7): full('d')[:mib/2]}}}, padded},
		"down":    {[]*fake{{down: func() error { return errDown }}}, padded},
	} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, seg(2, 7).Name(mib)), padded, 0o600))
		a := newAsked(t)
		a.standby = true
		s := &server{route: a.route(), sources: []source{local{dir: dir, size: mib}}}
		for _, x := range c.archives {
			s.sources = append(s.sources, x)
		}
		check(t, s.segment(t.Context(), seg(2, 7), a.into))
		got, err := os.ReadFile(a.into)
		check(t, err)
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s: it is %d bytes of something else", name, len(got))
		}
	}
}

// TestWhatIsStreamedStays: a part that was archived gives way to more of it, and to nothing else.
func TestWhatIsStreamedStays(t *testing.T) {
	part := strings.Repeat("a", 20000)
	for name, c := range map[string]struct {
		own  string
		want bool
	}{
		"as much":             {part, true},
		"as much, padded":     {part + strings.Repeat("\x00", 9000), true},
		"more":                {part + "b" + strings.Repeat("\x00", 9000), true},
		"less":                {part[:19999] + strings.Repeat("\x00", 9000), false},
		"less, and cut":       {part[:8192], false},
		"another":             {strings.Repeat("c", 20000), false},
		"another, at the end": {part[:19999] + "c", false},
		"nothing":             {"", false},
	} {
		dir := t.TempDir()
		own, other := filepath.Join(dir, "own"), filepath.Join(dir, "other")
		check(t, os.WriteFile(own, []byte(c.own), 0o600))
		check(t, os.WriteFile(other, []byte(part+strings.Repeat("\x00", 12000)), 0o600))
		if got, err := beginsWith(own, other); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if has, err := beginsWith(filepath.Join(t.TempDir(), "none"), "other"); has || err != nil {
		t.Errorf("one that is not there: %v, %v", has, err)
	}
}

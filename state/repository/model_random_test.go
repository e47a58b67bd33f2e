package repository

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// randomHistories is how many are lived through: PGKEEP_HISTORIES, or a few.
func randomHistories(tb testing.TB) uint64 {
	s := os.Getenv("PGKEEP_HISTORIES")
	if s == "" {
		return 1500
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// liveOn lives a random history of the model: four processes at a time, each a writer, continuer, expirer, remover, cleaner, holder, copier or a disk that
// loses something; one that has ended, or crashed at any step, is followed by another. It gives after how many steps something was lost, -1:
// nothing was, and how many backups were committed and removed.
func liveOn(r rules, seed uint64, length int) (lostAt, made, gone int) {
	rng := rand.New(rand.NewPCG(seed, 4))
	var w world
	w.start, w.committed, w.volume = firstBackups, firstBackups, firstBackups
	w.refs[1], w.names[1] = one(0), one(0)
	var cast [modelProcs]program
	next, disks := 2, 0
	follow := func(p int) {
		w.procs[p] = process{}
		if rng.IntN(2) == 0 {
			w.holds[p] = 0 // what a crash left has expired
		}
		switch n := rng.IntN(11); {
		case n == 8 && next < modelBackups:
			cast[p] = continuer(next)
			next++
		case n == 9:
			cast[p] = remover
		case n == 10 && rng.IntN(4) == 0:
			cast[p] = decay
		case n < 2 && next < modelBackups:
			cast[p] = writer(next)
			next++
		case n == 2:
			cast[p] = cleaner
		case n == 3:
			cast[p] = holder
		case n == 4:
			cast[p] = copier
		case n == 5 && disks == 0 && rng.IntN(4) == 0:
			cast[p] = disk
			disks++
		default:
			cast[p] = expirer
		}
	}
	for p := range cast {
		follow(p)
	}
	p, burst := 0, 0
	for at := range length {
		if burst--; burst < 0 { // a process goes on for a while now and then, as if the others stood still
			if p, burst = rng.IntN(modelProcs), 0; rng.IntN(4) == 0 {
				burst = rng.IntN(30)
			}
		}
		switch crash := rng.IntN(60) == 0; {
		case w.procs[p].pc == ended || crash:
			follow(p)
		case w.procs[p].pc == holding && rng.IntN(10) == 0:
			w.holds[p], w.procs[p].pc = 0, ended // it lets go
		}
		before := w.committed
		if steps := cast[p](r, w, p); len(steps) > 0 {
			w = steps[rng.IntN(len(steps))]
		} else if w.procs[p].pc != holding {
			w.procs[p].pc = ended // nothing to choose from
		}
		for i := range modelBackups {
			switch has := w.committed.has(i); {
			case has && !before.has(i):
				made++
			case !has && before.has(i):
				gone++
			}
		}
		if w.lost(told(&w, cast[:])) {
			return at, made, gone
		}
	}
	return -1, made, gone
}

// TestRandomHistoriesLoseNothing lives through long random histories of chains, crashes, writers taken for dead, copies, holds and expirers; the
// wrong protocols lose something in some of them.
func TestRandomHistoriesLoseNothing(t *testing.T) {
	n := randomHistories(t)
	made, gone := 0, 0
	for seed := range n {
		at, m, g := liveOn(rules{newestFirst: seed%2 == 0}, seed, 400)
		if at >= 0 {
			t.Fatalf("seed %d loses a backup at step %d", seed, at)
		}
		made, gone = made+m, gone+g
	}
	t.Logf("%d histories of 400 steps: %d backups made and %d removed, 0 lost", n, made, gone)
	if made < int(n)/2 || gone < int(n)/2 {
		t.Error("too little happens: this test proves nothing")
	}
	for name, r := range map[string]rules{
		"names only the parent": {nameParentOnly: true}, "checks first": {checkFirst: true}, "withdraws tombs": {withdrawTombs: true},
		"drops TOMB with the backup": {tombWithBackup: true}, "holds without a look": {holdWithoutLook: true},
		"looks once": {oneLook: true, newestFirst: true}, "copies under one hold": {oneCopyHold: true},
	} {
		wrong := 0
		for seed := range uint64(1500) {
			if at, _, _ := liveOn(r, seed, 400); at >= 0 {
				wrong++
			}
		}
		t.Logf("a protocol that %s loses something in %d of 1500", name, wrong)
		if wrong == 0 {
			t.Errorf("a protocol that %s loses nothing: the histories do not see it", name)
		}
	}
}

package repository

import (
	"fmt"
	"math/bits"
	"testing"
)

// The interleaving model of writers, expirers, cleaners and holders over one store. It knows no clock: the 24 hours of
// grace count as over at once, so what it proves does not rest on anybody's clock. A process that crashes or sleeps for
// ever is one that takes no further step, and every state is checked, so crashes and pauses are in every order.
//
// Backups are numbers; sets of them are bit masks. Backups 0 and 1 are committed at the start, 1 refers to 0; writers
// make the others, so chains of three and four arise.

type set uint8

func one(i int) set              { return 1 << i }
func (s set) has(i int) bool     { return s&one(i) != 0 }
func (s set) first() (int, bool) { return bits.TrailingZeros8(uint8(s)), s != 0 }

const (
	modelBackups = 5
	modelProcs   = 4
)

// world is the store and every process.
type world struct {
	start, committed, aborted, tomb, volume set
	cut                                     set               // decided `cut`: nobody restores it, and another backup may refer to it
	holds                                   [modelProcs]set   // by who holds
	copied                                  set               // START of a copy in another repository
	refs                                    [modelBackups]set // volumes of others that it reads, once committed
	names                                   [modelBackups]set // in its START
	lostCut                                 set               // cut ones that lost their decision to a disk
	bereft, tombed, deleted                 set               // lost START or COMMIT to a disk; ever had a TOMB; START was deleted
	procs                                   [modelProcs]process
}

// process is one process's program counter and what it remembers.
type process struct {
	pc    uint8
	at    uint8 // backup that it works on
	other uint8 // parent, or the backup that it looks at
	made  uint8 // one more than the backup that it announced; 0: none
	dead  set   // first look
	spare set   // second look: held or named
	need  set   // second look: their volumes are read by others
}

const ended = 255

// hold gives the backups that anybody holds.
func (w *world) hold() (s set) {
	for _, h := range w.holds {
		s |= h
	}
	return s
}

func (w *world) visible() set { return w.start & w.committed &^ w.tomb }

// rules are the protocol, and its wrong variants.
type rules struct {
	nameParentOnly   bool // START names the parent and not what the parent refers to
	checkFirst       bool // the parent is looked at before START is put
	withdrawTombs    bool // an expirer that finds a reference takes its TOMB back
	tombWithBackup   bool // TOMB goes with the backup, in any order: here before START
	startBeforeTomb  bool // the parent's START is looked for before its TOMB
	newestFirst      bool // looks read backups from the newest on; right either way, because clocks may differ
	oneLook          bool // what may go and who needs it are read in one pass
	holdWithoutLook  bool // a holder does not look for TOMB after its put
	commitOverwrites bool // the decision is not put-if-absent
	startIsAll       bool // a decision `committed` without START and TOMB counts as the rest of a removal
	liveWithStart    bool // in the second look, a backup without START needs nothing: a disk lost it and a TOMB came since the first look
	oneCopyHold      bool // all copies into one repository hold under one name
	cutIsAborted     bool // what is left of a cut backup is removed as that of an aborted one, whoever reads it
	cutWithoutLook   bool // who goes on with a cut backup does not look for TOMB after START
	removeNamed      bool // what is left of an aborted backup is removed although others name it
	cleanTheEnded    bool // a backup without decision is abandoned, also when its writer has let go of it
}

// program advances process p by one step, in every way that it can go.
type program func(r rules, w world, p int) []world

// orphan tells whether the backup's START was lost: the decision is there, and nobody deleted it.
func (w *world) orphan(r rules, i int) bool {
	return !r.startIsAll && (w.committed | w.cut).has(i) && !w.start.has(i) && !w.tomb.has(i)
}

// lost tells whether a backup that is visible, held by a holder that was told so, or told of because a disk lost one of its
// records, misses volumes.
func (w *world) lost(told set) bool {
	need := w.visible() | told | w.bereft&^w.tombed
	for i := range modelBackups {
		if need.has(i) && (w.refs[i]|one(i))&^w.volume != 0 {
			return true
		}
	}
	return false
}

// explore visits every reachable state once and counts those in which something is lost.
func explore(r rules, programs []program) (states, lost int) {
	var w world
	w.start, w.committed, w.volume = 3, 3, 3
	w.refs[1] = one(0)
	w.names[1] = one(0)
	for i := range w.procs {
		if i >= len(programs) {
			w.procs[i].pc = ended
		}
	}
	seen := map[world]struct{}{w: {}}
	stack := []world{w}
	for len(stack) > 0 {
		w := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		states++
		if w.lost(told(&w, programs)) {
			lost++
			continue
		}
		for p, step := range programs {
			if w.procs[p].pc == ended {
				continue
			}
			for _, next := range step(r, w, p) {
				if _, ok := seen[next]; !ok {
					seen[next] = struct{}{}
					stack = append(stack, next)
				}
			}
		}
	}
	return states, lost
}

// heldTold marks, in process.spare of a holder, that it was told of success.
func told(w *world, programs []program) (s set) {
	for p := range programs {
		if w.procs[p].pc == holding || w.procs[p].pc == reading {
			s |= one(int(w.procs[p].at))
		}
	}
	return s
}

// to gives the world with process p at another step.
func (w world) to(p int, pc uint8) world {
	w.procs[p].pc = pc
	return w
}

// writer makes backup id, a child of any visible one.
func writer(id int) program {
	const (
		choose = iota
		announce
		lookTomb
		lookStart
		write
		commit
		abort
		early // checkFirst: looks before it announces
	)
	return func(r rules, w world, p int) []world {
		parent := int(w.procs[p].other)
		switch w.procs[p].pc {
		case choose:
			var out []world
			for i := range modelBackups {
				if w.visible().has(i) {
					n := w.to(p, announce)
					if r.checkFirst {
						n = w.to(p, early)
					}
					n.procs[p].other = uint8(i)
					n.refs[id] = one(i) | w.refs[i]
					out = append(out, n)
				}
			}
			return out
		case early:
			if !w.visible().has(parent) {
				return []world{w.to(p, ended)}
			}
			return []world{w.to(p, announce)}
		case announce:
			n := w.to(p, lookTomb)
			if r.startBeforeTomb {
				n = w.to(p, lookStart)
			}
			if r.checkFirst {
				n = w.to(p, write)
			}
			n.start |= one(id)
			n.procs[p].made = uint8(id) + 1
			n.names[id] = w.refs[id]
			if r.nameParentOnly {
				n.names[id] = one(parent)
			}
			return []world{n}
		case lookTomb:
			next := uint8(lookStart)
			if r.startBeforeTomb {
				next = write
			}
			if w.tomb.has(parent) {
				next = abort
			}
			return []world{w.to(p, next)}
		case lookStart:
			next := uint8(write)
			if r.startBeforeTomb {
				next = lookTomb
			}
			if !w.start.has(parent) {
				next = abort
			}
			return []world{w.to(p, next)}
		case write:
			n := w.to(p, commit)
			n.volume |= one(id)
			return []world{n}
		case commit:
			n := w.to(p, ended)
			if !w.aborted.has(id) && !w.cut.has(id) || r.commitOverwrites {
				n.committed |= one(id)
				n.aborted &^= one(id)
			}
			return []world{n}
		case abort:
			n := w.to(p, ended)
			if !w.committed.has(id) && !w.cut.has(id) {
				n.aborted |= one(id)
			}
			return []world{n}
		}
		return nil
	}
}

// The steps of an expirer. Looks read one backup at a time, oldest first.
const (
	expChoose = iota
	expTomb
	expFirst
	expSecond
	expRemove
	expDropVolume
	expDropDecision
	expDropTomb
	holding // of a holder, here so that told can tell it
	reading // of a copier: it reads the volumes of a backup
)

// expirer puts the TOMB of any visible backup that is not held, and sweeps.
func expirer(r rules, w world, p int) []world {
	me := w.procs[p]
	switch me.pc {
	case expChoose:
		out := []world{w.to(p, expFirst)} // a sweep without a TOMB of its own
		for i := range modelBackups {
			if w.visible().has(i) && !w.hold().has(i) {
				n := w.to(p, expTomb)
				n.procs[p].at = uint8(i)
				out = append(out, n)
			}
		}
		return out
	case expTomb: // perhaps late: others may have removed it all, and this TOMB is garbage then
		n := w.to(p, expFirst)
		n.tomb |= one(int(me.at))
		n.tombed |= one(int(me.at))
		return []world{n}
	case expFirst:
		return []world{firstLook(r, w, p)}
	case expSecond:
		return []world{secondLook(r, w, p)}
	}
	return removal(r, w, p)
}

// looksAt gives the backup that a look reads next.
func looksAt(r rules, me process) int {
	if r.newestFirst {
		return modelBackups - 1 - int(me.other)
	}
	return int(me.other)
}

func firstLook(r rules, w world, p int) world {
	i := looksAt(r, w.procs[p])
	remains := (w.volume | w.committed | w.aborted | w.cut | w.tomb).has(i)
	heldDeleted := w.tomb.has(i) && w.hold().has(i)
	if !w.start.has(i) && remains && !w.orphan(r, i) && !heldDeleted || w.tomb.has(i) && !w.hold().has(i) {
		w.procs[p].dead |= one(i)
	}
	if r.oneLook {
		note(&w, p, i, r)
	}
	w.procs[p].other++
	if w.procs[p].other == modelBackups {
		w.procs[p].other, w.procs[p].pc = 0, expSecond
		if r.oneLook {
			w = choose(r, w, p)
		}
	}
	return w
}

func secondLook(r rules, w world, p int) world {
	note(&w, p, looksAt(r, w.procs[p]), r)
	w.procs[p].other++
	if w.procs[p].other == modelBackups {
		w = choose(r, w, p)
	}
	return w
}

// note adds what backup i needs. A TOMB that the first look did not see makes nothing free.
func note(w *world, p, i int, r rules) {
	me := &w.procs[p]
	open := w.start.has(i) && !w.committed.has(i) && !w.aborted.has(i) && !w.cut.has(i)
	live := w.committed.has(i) && (!me.dead.has(i) || w.hold().has(i))
	if r.startIsAll || r.liveWithStart {
		live = live && w.start.has(i)
	}
	if r.oneLook {
		live = w.start.has(i) && w.committed.has(i) && (!w.tomb.has(i) || w.hold().has(i))
	}
	live = live || w.orphan(r, i) || w.committed.has(i) && w.tomb.has(i) && w.hold().has(i)
	if open || live || w.cut.has(i) && !w.tomb.has(i) {
		me.spare |= one(i)
	}
	if open {
		me.spare |= w.names[i]
	}
	if live {
		me.need |= w.refs[i]
	}
}

// choose ends the looks: what is dead and neither spared nor needed is removed.
func choose(r rules, w world, p int) world {
	me := &w.procs[p]
	if r.withdrawTombs && (me.spare | me.need).has(int(me.at)) {
		w.tomb &^= one(int(me.at))
	}
	me.dead &^= me.spare
	me.dead &^= me.need
	me.spare, me.other, me.pc = 0, 0, expRemove
	return w
}

// removal removes the dead, one object a step: START, volumes, decision, TOMB.
func removal(r rules, w world, p int) []world {
	me := w.procs[p]
	i, any := me.dead.first()
	if !any {
		n := w
		n.procs[p] = process{pc: ended}
		return []world{n}
	}
	switch me.pc {
	case expRemove:
		n := w.to(p, expDropVolume)
		if r.tombWithBackup {
			n.tomb &^= one(i)
		} else {
			n.start &^= one(i)
		}
		n.deleted |= one(i)
		return []world{n}
	case expDropVolume:
		n := w.to(p, expDropDecision)
		n.volume &^= one(i)
		return []world{n}
	case expDropDecision:
		n := w.to(p, expDropTomb)
		n.committed, n.aborted, n.cut = n.committed&^one(i), n.aborted&^one(i), n.cut&^one(i)
		return []world{n}
	}
	n := w.to(p, expRemove)
	n.tomb, n.start = n.tomb&^one(i), n.start&^one(i)
	n.procs[p].dead &^= one(i)
	return []world{n}
}

// cleaner takes an undecided backup's writer for dead, rightly or not: decides `aborted` and removes it.
func cleaner(r rules, w world, p int) []world {
	const (
		find = iota
		decide
		lookForNames
		dropStart
		dropVolume
		dropDecision
	)
	i := int(w.procs[p].at)
	switch w.procs[p].pc {
	case find:
		out := []world{w.to(p, ended)}
		for i := range modelBackups {
			ended := firstBackups.has(i) && !r.cleanTheEnded // its writer has let go: COMMIT was lost
			if w.start.has(i) && !w.committed.has(i) && !ended && (!w.cut.has(i) || r.cutIsAborted) {
				n := w.to(p, decide)
				n.procs[p].at = uint8(i)
				out = append(out, n)
			}
		}
		return out
	case decide:
		if w.committed.has(i) || w.cut.has(i) && !r.cutIsAborted {
			return []world{w.to(p, ended)}
		}
		n := w.to(p, lookForNames)
		n.aborted |= one(i)
		return []world{n}
	case lookForNames: // one backup at a time; nobody begins to name it now, because it is not cut
		o := int(w.procs[p].other)
		if o == modelBackups || r.removeNamed || r.cutIsAborted {
			return []world{w.to(p, dropStart)}
		}
		open := w.start.has(o) && !w.committed.has(o) && !w.aborted.has(o) && !w.cut.has(o)
		if open && w.names[o].has(i) || w.committed.has(o) && w.refs[o].has(i) {
			return []world{w.to(p, ended)}
		}
		n := w
		n.procs[p].other++
		return []world{n}
	case dropStart:
		n := w.to(p, dropVolume)
		n.start &^= one(i)
		return []world{n}
	case dropVolume:
		n := w.to(p, dropDecision)
		n.volume &^= one(i)
		return []world{n}
	}
	n := w.to(p, ended)
	n.aborted &^= one(i)
	return []world{n}
}

// continuer decides `cut` for a backup whose writer it takes for dead, rightly or not, or finds one that is cut, and makes backup id, which
// refers to what that has stored.
func continuer(id int) program {
	const (
		choose = iota
		decide
		announce
		lookTomb
		lookStart
		lookDecision
		write
		commit
		abort = 20 // told takes others for those of a holder
	)
	return func(r rules, w world, p int) []world {
		i := int(w.procs[p].at)
		switch w.procs[p].pc {
		case choose:
			out := []world{w.to(p, ended)}
			for i := range modelBackups {
				if !w.start.has(i) || !w.volume.has(i) || w.committed.has(i) || firstBackups.has(i) {
					continue
				}
				n := w.to(p, decide)
				n.procs[p].at = uint8(i)
				out = append(out, n)
			}
			return out
		case decide:
			if w.committed.has(i) || w.aborted.has(i) {
				return []world{w.to(p, ended)}
			}
			n := w.to(p, announce)
			n.cut |= one(i)
			return []world{n}
		case announce:
			n := w.to(p, lookTomb)
			if r.cutWithoutLook {
				n.procs[p].pc = write
			}
			n.start |= one(id)
			n.procs[p].made = uint8(id) + 1
			n.names[id], n.refs[id] = one(i), one(i)
			return []world{n}
		case lookTomb:
			if w.tomb.has(i) {
				return []world{w.to(p, abort)}
			}
			return []world{w.to(p, lookStart)}
		case lookStart:
			if !w.start.has(i) {
				return []world{w.to(p, abort)}
			}
			return []world{w.to(p, lookDecision)}
		case lookDecision:
			if !w.cut.has(i) {
				return []world{w.to(p, abort)}
			}
			return []world{w.to(p, write)}
		case write:
			n := w.to(p, commit)
			n.volume |= one(id)
			return []world{n}
		case commit:
			n := w.to(p, ended)
			if !w.aborted.has(id) && !w.cut.has(id) {
				n.committed |= one(id)
			}
			return []world{n}
		case abort:
			n := w.to(p, ended)
			if !w.committed.has(id) && !w.cut.has(id) {
				n.aborted |= one(id)
			}
			return []world{n}
		}
		return nil
	}
}

// remover removes a cut backup: it puts TOMB, looks who names or reads it, and removes what nobody does.
func remover(r rules, w world, p int) []world {
	const put = 100
	me := w.procs[p]
	switch me.pc {
	case expChoose:
		out := []world{w.to(p, ended)}
		for i := range modelBackups {
			if w.cut.has(i) {
				n := w.to(p, put)
				n.procs[p].at = me.at
				n.procs[p].dead = one(i)
				out = append(out, n)
			}
		}
		return out
	case put:
		n := w.to(p, expSecond)
		n.tomb |= me.dead
		return []world{n}
	case expSecond:
		return []world{secondLook(r, w, p)}
	}
	return removal(r, w, p)
}

// writes tells whether the writer of a backup may go on yet.
func (w *world) writes(i int) bool {
	for _, x := range w.procs {
		if x.pc != ended && x.made == uint8(i)+1 {
			return true
		}
	}
	return false
}

// decay loses the decision of a cut backup whose writer has let go of it, as disk does: that a writer wakes up just where a disk lost
// what it is bound by is two faults at once.
func decay(_ rules, w world, p int) []world {
	var out []world
	for i := range modelBackups {
		if w.cut.has(i) && !w.writes(i) {
			n := w.to(p, ended)
			n.cut &^= one(i)
			n.lostCut |= one(i)
			out = append(out, n)
		}
	}
	return out
}

// holder holds any visible backup and lets go of it when it finds a TOMB. One that was told of success stays `holding`.
func holder(r rules, w world, p int) []world {
	const (
		choose = iota
		put
		lookTomb
		lookStart
		release
	)
	i := int(w.procs[p].at)
	switch w.procs[p].pc {
	case choose:
		var out []world
		for i := range modelBackups {
			if w.visible().has(i) {
				n := w.to(p, put)
				n.procs[p].at = uint8(i)
				out = append(out, n)
			}
		}
		return out
	case put:
		n := w.to(p, lookTomb)
		if r.holdWithoutLook {
			n.procs[p].pc = holding
		}
		n.holds[p] |= one(i)
		return []world{n}
	case lookTomb:
		if w.tomb.has(i) {
			return []world{w.to(p, release)}
		}
		return []world{w.to(p, lookStart)}
	case lookStart:
		if !w.start.has(i) {
			return []world{w.to(p, release)}
		}
		return []world{w.to(p, holding)}
	case release:
		n := w.to(p, ended)
		n.holds[p] &^= one(i)
		return []world{n}
	}
	return nil
}

// copier copies any visible backup into another repository: it holds the original and looks, puts START there, reads until the copy is
// decided, and lets go. One that finds START there has lost against another copier. Somebody may take a copier for dead, rightly or not,
// and remove what it left, and a third one begins then. The second step of a copier is its hold, as a holder's.
func copier(r rules, w world, p int) []world {
	const (
		choose = iota
		put
		lookTomb
		lookStart
		announce
		release
	)
	i := int(w.procs[p].at)
	name := p
	if r.oneCopyHold {
		name = modelProcs - 1
	}
	switch w.procs[p].pc {
	case choose:
		var out []world
		for i := range modelBackups {
			if w.visible().has(i) {
				n := w.to(p, put)
				n.procs[p].at = uint8(i)
				out = append(out, n)
			}
		}
		return out
	case put:
		n := w.to(p, lookTomb)
		n.holds[name] |= one(i)
		return []world{n}
	case lookTomb:
		if w.tomb.has(i) {
			return []world{w.to(p, release)}
		}
		return []world{w.to(p, lookStart)}
	case lookStart:
		if !w.start.has(i) {
			return []world{w.to(p, release)}
		}
		return []world{w.to(p, announce)}
	case announce:
		if w.copied.has(i) {
			return []world{w.to(p, release)}
		}
		n := w.to(p, reading)
		n.copied |= one(i)
		return []world{n}
	case reading: // decided, or found out that it was taken for dead; or it is only taken for dead, and reads on
		dead := w
		dead.copied &^= one(i)
		return []world{w.to(p, release), dead}
	}
	n := w.to(p, ended)
	n.holds[name] &^= one(i)
	return []world{n}
}

// firstBackups are committed at the start, and their writers have let go of them.
const firstBackups set = 3

// disk loses START or COMMIT of one of the first backups. START may come back: it was only hidden, by a listing that is stale
// or a file system that was not mounted whole.
func disk(_ rules, w world, p int) []world {
	const (
		lose = iota
		comeBack
	)
	if w.procs[p].pc == comeBack {
		n := w.to(p, ended)
		if w.deleted.has(int(w.procs[p].at)) {
			return []world{n} // what was deleted while it was hidden stays away
		}
		n.start |= one(int(w.procs[p].at))
		return []world{n, w.to(p, ended)}
	}
	var out []world
	for i := range modelBackups {
		if !firstBackups.has(i) || !w.visible().has(i) {
			continue
		}
		n := w.to(p, comeBack)
		n.procs[p].at = uint8(i)
		n.start &^= one(i)
		n.bereft |= one(i)
		out = append(out, n)
		n = w.to(p, ended)
		n.committed &^= one(i)
		n.bereft |= one(i)
		out = append(out, n)
	}
	return out
}

// casts are who takes part. The real protocol must lose nothing with any of them.
func casts() map[string][]program {
	return map[string][]program{
		"two expirers, one writer":               {expirer, expirer, writer(2)},
		"two writers, one expirer":               {writer(2), writer(3), expirer},
		"two expirers, one holder":               {expirer, expirer, holder},
		"writer, holder, expirer":                {writer(2), holder, expirer},
		"writer, cleaner, expirer":               {writer(2), cleaner, expirer},
		"two writers, two expirers":              {writer(2), writer(3), expirer, expirer},
		"two writers, cleaner, expirer":          {writer(2), writer(3), cleaner, expirer},
		"writer, holder, cleaner and an expirer": {writer(2), holder, cleaner, expirer},
		"copier, two expirers":                   {copier, expirer, expirer},
		"two copiers, expirer":                   {copier, copier, expirer},
		"copier, writer, expirer":                {copier, writer(2), expirer},
		"copier, holder, expirer":                {copier, holder, expirer},
		"copier, cleaner, writer, expirer":       {copier, cleaner, writer(2), expirer},
		"disk, two expirers":                     {disk, expirer, expirer},
		"disk, two expirers, writer":             {disk, expirer, expirer, writer(2)},
		"disk, cleaner, expirer, writer":         {disk, cleaner, expirer, writer(2)},
		"disk, holder, two expirers":             {disk, holder, expirer, expirer},
		"writer, continuer, remover, expirer":    {writer(2), continuer(3), remover, expirer},
		"writer, two continuers, remover":        {writer(2), continuer(3), continuer(4), remover},
		"writer, continuer, two removers":        {writer(2), continuer(3), remover, remover},
		"writer, continuer, cleaner, remover":    {writer(2), continuer(3), cleaner, remover},
		"writer, continuer, cleaner, expirer":    {writer(2), continuer(3), cleaner, expirer},
		"writer, continuer, decay, cleaner":      {writer(2), continuer(3), decay, cleaner},
		"two writers, continuer, remover":        {writer(2), writer(4), continuer(3), remover},
	}
}

func TestProtocolLosesNothing(t *testing.T) {
	for name, cast := range casts() {
		for _, newestFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/newest first %v", name, newestFirst), func(t *testing.T) {
				states, lost := explore(rules{newestFirst: newestFirst}, cast)
				t.Logf("%d states, %d lost", states, lost)
				if lost != 0 || states < 1000 {
					t.Errorf("%d of %d states lose a backup", lost, states)
				}
			})
		}
	}
}

// TestLongChainLosesNothing lets chains of five arise under an expirer.
func TestLongChainLosesNothing(t *testing.T) {
	states, lost := explore(rules{}, []program{writer(2), writer(3), writer(4), expirer})
	t.Logf("%d states, %d lost", states, lost)
	if lost != 0 || states < 1000 {
		t.Errorf("%d of %d states lose a backup", lost, states)
	}
}

func TestModelFindsWrongProtocols(t *testing.T) {
	for _, v := range []struct {
		name string
		r    rules
		cast string
	}{
		{"START names only the parent", rules{nameParentOnly: true}, "two expirers, one writer"},
		{"TOMB goes with its backup", rules{tombWithBackup: true}, "two expirers, one writer"},
		{"the parent is checked before START", rules{checkFirst: true}, "two expirers, one writer"},
		{"a TOMB may be withdrawn", rules{withdrawTombs: true}, "two expirers, one writer"},
		{"START is looked for before TOMB", rules{startBeforeTomb: true}, "two expirers, one writer"},
		{"one look", rules{oneLook: true, newestFirst: true}, "two expirers, one writer"},
		{"a holder that does not look", rules{holdWithoutLook: true}, "two expirers, one holder"},
		{"all copies under one hold", rules{oneCopyHold: true}, "two copiers, expirer"},
		{"a decision that is overwritten", rules{commitOverwrites: true}, "writer, cleaner, expirer"},
		{"without START nothing is needed", rules{liveWithStart: true, newestFirst: true}, "disk, two expirers, writer"},
		{"a decision without START is garbage", rules{startIsAll: true}, "disk, two expirers"},
		{"a lost decision is an abandoned backup", rules{cleanTheEnded: true}, "disk, cleaner, expirer, writer"},
		{"a cut backup is removed as an aborted one", rules{cutIsAborted: true}, "writer, continuer, cleaner, expirer"},
		{"who goes on does not look for TOMB", rules{cutWithoutLook: true}, "writer, continuer, two removers"},
		{"an aborted backup is removed although others name it", rules{removeNamed: true}, "writer, continuer, decay, cleaner"},
	} {
		t.Run(v.name, func(t *testing.T) {
			states, lost := explore(v.r, casts()[v.cast])
			t.Logf("%d of %d states lose a backup", lost, states)
			if lost == 0 {
				t.Errorf("the model does not see what is wrong in %d states", states)
			}
		})
	}
}

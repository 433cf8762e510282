package transport

import (
	"container/list"
	"sync"
)

// arriving bounds the messages that are on their way in, apart from those in work: whoever sends slowly
// takes no place of a message that is there. When there is no room the oldest is cut off. An honest
// message arrives in an instant and is never the oldest for long; a flood of slow ones displaces itself.
type arriving struct {
	max int

	mu    sync.Mutex
	queue *list.List // of func() that cut a message off, the oldest in front
}

func newArriving(max int) *arriving { return &arriving{max: max, queue: list.New()} }

// enter makes room for a message. cutOff, which must not block, is called at most once and never after
// leave returned.
func (a *arriving) enter(cutOff func()) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queue.Len() >= a.max {
		a.queue.Remove(a.queue.Front()).(func())()
	}
	e := a.queue.PushBack(cutOff)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.queue.Remove(e) // does nothing where it was cut off
	}
}

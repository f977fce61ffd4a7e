//! The objects of a game: who owns which, and what changed since the last tick.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::OBJECTS_PER_PLAYER_MAX;
use crate::memory::Allocated;
use crate::reasons::ErrorCode;
use crate::wire::native::Solid;

/// Ordered maps throughout: what reaches a frame comes in the same order in every run.
#[derive(Debug, Default)]
pub struct Objects {
    by_id: BTreeMap<u32, Owned>,
    by_owner: BTreeSet<(u32, u32)>,
    changed: BTreeSet<u32>,
    gone: BTreeSet<u32>,
}

#[derive(Debug)]
struct Owned {
    owner: u32,
    object: Solid,
}

impl Objects {
    /// Creates or changes an object of player `owner`.
    pub fn put(&mut self, owner: u32, object: &Solid) -> Result<(), ErrorCode> {
        let id = object.object.object_id.get();
        match self.by_id.get_mut(&id) {
            Some(owned) if owned.owner != owner => return Err(ErrorCode::NotYours),
            Some(owned) => owned.object = *object,
            None => {
                if self.owned_by(owner).count() >= OBJECTS_PER_PLAYER_MAX {
                    return Err(ErrorCode::LimitReached);
                }
                self.by_id.insert(id, Owned { owner, object: *object });
                self.by_owner.insert((owner, id));
                self.gone.remove(&id);
            }
        }
        self.changed.insert(id);
        Ok(())
    }

    /// Removes an object of player `owner`; one that does not exist is removed already.
    pub fn remove(&mut self, owner: u32, id: u32) -> Result<(), ErrorCode> {
        match self.by_id.get(&id) {
            Some(owned) if owned.owner != owner => return Err(ErrorCode::NotYours),
            Some(_) => self.forget(owner, id),
            None => {}
        }
        Ok(())
    }

    /// Removes everything that player `owner` owns.
    pub fn remove_all_of(&mut self, owner: u32) {
        let owned: Vec<u32> = self.owned_by(owner).collect();
        for id in owned {
            self.forget(owner, id);
        }
    }

    /// An object, if there is one with this id.
    pub fn get(&self, id: u32) -> Option<&Solid> {
        self.by_id.get(&id).map(|owned| &owned.object)
    }

    /// Every object, by id.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Solid> {
        self.by_id.values().map(|owned| &owned.object)
    }

    /// Objects changed since `settle`, by id.
    pub fn changed(&self) -> impl ExactSizeIterator<Item = &Solid> {
        self.changed.iter().map(|id| &self.by_id[id].object)
    }

    /// Objects gone since `settle`, by id.
    pub fn gone(&self) -> impl ExactSizeIterator<Item = u32> {
        self.gone.iter().copied()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.by_id.allocated_bytes()
            + self.by_owner.allocated_bytes()
            + self.changed.allocated_bytes()
            + self.gone.allocated_bytes()
    }

    /// The tick is over: nothing has changed since.
    pub fn settle(&mut self) {
        self.changed.clear();
        self.gone.clear();
    }

    fn owned_by(&self, owner: u32) -> impl Iterator<Item = u32> {
        self.by_owner.range((owner, 0)..=(owner, u32::MAX)).map(|(_, id)| *id)
    }

    fn forget(&mut self, owner: u32, id: u32) {
        self.by_id.remove(&id);
        self.by_owner.remove(&(owner, id));
        self.changed.remove(&id);
        self.gone.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::native::Object;

    fn object(id: u32) -> Solid {
        Solid { object: Object { object_id: id.into(), ..Object::default() }, z: 0.0.into() }
    }

    fn ids<'a>(objects: impl Iterator<Item = &'a Solid>) -> Vec<u32> {
        objects.map(|object| object.object.object_id.get()).collect()
    }

    #[test]
    fn an_object_belongs_to_who_put_it_first() {
        let mut objects = Objects::default();
        assert_eq!(objects.put(1, &object(9)), Ok(()));
        assert_eq!(objects.put(2, &object(9)), Err(ErrorCode::NotYours));
        assert_eq!(objects.remove(2, 9), Err(ErrorCode::NotYours));
        assert_eq!(objects.remove(1, 9), Ok(()));
        assert_eq!(objects.put(2, &object(9)), Ok(()));
    }

    #[test]
    fn a_player_owns_a_bounded_number() {
        let mut objects = Objects::default();
        for id in 0..OBJECTS_PER_PLAYER_MAX as u32 {
            assert_eq!(objects.put(1, &object(id)), Ok(()));
        }
        assert_eq!(objects.put(1, &object(1000)), Err(ErrorCode::LimitReached));
        assert_eq!(objects.put(1, &object(0)), Ok(()), "changing one is still allowed");
        assert_eq!(objects.put(2, &object(1000)), Ok(()));
    }

    #[test]
    fn an_id_is_either_changed_or_gone_never_both() {
        let mut objects = Objects::default();
        objects.put(1, &object(1)).unwrap();
        objects.put(1, &object(2)).unwrap();
        objects.settle();
        objects.remove_all_of(1);
        assert_eq!((ids(objects.changed()), objects.gone().collect::<Vec<_>>()), (vec![], vec![1, 2]));
        objects.put(3, &object(2)).unwrap();
        assert_eq!((ids(objects.changed()), objects.gone().collect::<Vec<_>>()), (vec![2], vec![1]));
        objects.settle();
        assert_eq!((ids(objects.all()), objects.changed().len(), objects.gone().len()), (vec![2], 0, 0));
    }
}

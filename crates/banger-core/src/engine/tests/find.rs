//! Finding and listing VMs, and what VMs hold on to.

use crate::{
    engine::CreateRequest,
    error::{Error, Kind},
    name::ImageName,
    testing::{World, create, request, silent},
};

#[test]
fn a_vm_is_found_by_name_by_id_and_by_unique_prefix() {
    World::new().life(async |engine| {
        let id = create(&engine, "calm-otter", false, false)
            .await
            .view()
            .record
            .id;
        create(&engine, "calm-vole", false, false).await;
        let id = id.to_string();
        for target in ["calm-otter", "calm-o", &id, &id[..31]] {
            assert_eq!(
                engine.find(target).unwrap().name().as_str(),
                "calm-otter",
                "{target}"
            );
        }
        let several = engine.find("calm-").unwrap_err();
        assert!(matches!(&several, Error::Ambiguous { candidates, .. } if candidates.len() == 2));
        for target in ["", "nobody", &"x".repeat(100_000)] {
            let Err(Error::NotFound {
                kind: Kind::Vm,
                target,
            }) = engine.find(target)
            else {
                panic!("there is no such VM")
            };
            assert!(target.len() <= 80);
        }
    });
}

#[test]
fn generated_names_do_not_collide() {
    const MANY: usize = 150;
    World::new().life(async |engine| {
        for _ in 0..MANY {
            engine
                .create(CreateRequest::default(), silent())
                .await
                .unwrap();
        }
        let mut names: Vec<String> = engine
            .views()
            .iter()
            .map(|view| view.record.name.to_string())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), MANY);
    });
}

#[test]
fn an_image_is_kept_while_a_vm_uses_it() {
    let world = World::new();
    world.life(async |engine| {
        let vm = create(&engine, "user", true, false).await;
        let image: ImageName = "tiny".parse().unwrap();
        let refused = engine.delete_image(&image).await.unwrap_err();
        assert!(
            matches!(&refused, Error::ImageUsed { vm, .. } if vm == "user"),
            "{refused:?}"
        );
        vm.delete(true).await.unwrap();
        engine.delete_image(&image).await.unwrap();
        let gone = engine.delete_image(&image).await.unwrap_err();
        assert!(
            matches!(
                gone,
                Error::NotFound {
                    kind: Kind::Image,
                    ..
                }
            ),
            "{gone:?}"
        );
    });
}

#[test]
fn a_kernel_is_kept_while_a_vm_uses_it() {
    World::new().life(async |engine| {
        let vm = create(&engine, "user", false, false).await;
        let kernel = "test".parse().unwrap();
        let refused = engine.delete_kernel(&kernel).await.unwrap_err();
        assert!(
            matches!(&refused, Error::KernelUsed { vm, .. } if vm == "user"),
            "{refused:?}"
        );
        vm.delete(false).await.unwrap();
        engine.delete_kernel(&kernel).await.unwrap();
    });
}

#[test]
fn a_name_is_free_as_soon_as_its_vm_is_deleted() {
    World::new().life(async |engine| {
        for _ in 0..20 {
            create(&engine, "again", false, false)
                .await
                .delete(false)
                .await
                .unwrap();
            assert_eq!(engine.views().len(), 0);
        }
        engine
            .create(request("again", true, false), silent())
            .await
            .unwrap();
    });
}

//! Every story under tests/scenarios is a test: what it tells is played on the production machines in a made-up world, and
//! its output must be the recorded one (`UPDATE_GOLDENFILES=1` records anew; read it before you keep it).

test_each_file::test_each_path! { for ["txt"] in "./tests/scenarios" => story }

fn story([path]: [&std::path::Path; 1]) {
    keyval::sim::script::run(path).expect("the story is told to its end");
}
